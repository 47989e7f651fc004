/** Every command, in the order of `mwarp --help`. */
import type { Register } from "../session.js";
import { registerAttach } from "./attach.js";
import { registerBench } from "./bench.js";
import { registerCancel } from "./cancel.js";
import { registerDaemon } from "./daemon.js";
import { registerDemo } from "./demo.js";
import { registerDoctor } from "./doctor.js";
import { registerExec } from "./exec.js";
import { registerHistory } from "./history.js";
import { registerInspect } from "./inspect.js";
import { registerLab } from "./lab.js";
import { registerLogs } from "./logs.js";
import { registerMigrate } from "./migrate.js";
import { registerPs } from "./ps.js";
import { registerRecover } from "./recover.js";
import { registerRm } from "./rm.js";
import { registerRun } from "./run.js";
import { registerStart } from "./start.js";
import { registerStop } from "./stop.js";
import { registerVm } from "./vm.js";
import { registerVolume } from "./volume.js";
import { registerWait } from "./wait.js";

export const commands: readonly Register[] = [
  registerDemo,
  registerLab,
  registerVm,
  registerRun,
  registerPs,
  registerExec,
  registerAttach,
  registerLogs,
  registerStop,
  registerStart,
  registerRm,
  registerVolume,
  registerMigrate,
  registerWait,
  registerCancel,
  registerHistory,
  registerInspect,
  registerRecover,
  registerBench,
  registerDoctor,
  registerDaemon,
];
