/** The resident guest agent: started at boot, or again after a crash, with everything it must know on file. */
import { randomBytes } from "node:crypto";
import { mkdir, readFile, rm } from "node:fs/promises";
import { encodeMarker, NONCE_BYTES, SYNC_ACK } from "../protocol/frame.js";
import { Keeper } from "./containers/keeper.js";
import { writeCriuConf } from "./criu-conf.js";
import { Helper } from "./helper.js";
import { Hooks } from "./hooks.js";
import { AGENT_VERSION, warmUp } from "./info.js";
import { checkHelper } from "./job.js";
import { log, logTo, onLog } from "./log.js";
import { createHandlers } from "./methods.js";
import {
  CONTAINERS_DIR,
  LOG_FILE,
  MIGRATIONS_DIR,
  ROOT,
  ROOTFS_DIR,
  STAGING_DIR,
  VOLUMES_DIR,
} from "./paths.js";
import { Port } from "./port.js";
import { mustRun } from "./process.js";
import { keepCriuVersion, letCriuProbe, prepareQuickTools } from "./quick-tools.js";
import { Session } from "./session.js";

/** Share of memory that layers and images may take; they are frames of this guest. */
const TMPFS_OPTIONS = "mode=0755,size=90%";

async function prepareRoot(): Promise<void> {
  await mkdir(ROOT, { recursive: true });
  const mounted = (await readFile("/proc/self/mountinfo", "utf8")).includes(` ${ROOT} `);
  if (!mounted) await mustRun(["mount", "-t", "tmpfs", "-o", TMPFS_OPTIONS, "mwarp", ROOT]);
  await rm(STAGING_DIR, { recursive: true, force: true });
  for (const dir of [ROOTFS_DIR, CONTAINERS_DIR, MIGRATIONS_DIR, STAGING_DIR, VOLUMES_DIR])
    await mkdir(dir, { recursive: true });
}

async function main(): Promise<void> {
  await checkHelper();
  await prepareRoot();
  logTo(LOG_FILE);
  const stockTools = (error: unknown): void => log("warn", `stock tools only: ${String(error)}`);
  await Promise.all([writeCriuConf(), prepareQuickTools().catch(stockTools)]);
  log("info", `mwarp agent ${AGENT_VERSION} starts, pid ${process.pid}`);
  const helper = new Helper();
  helper.start();
  const hooks = new Hooks();
  await hooks.listen();
  const port = new Port();
  const keeper = new Keeper(helper, (name, exitCode) =>
    session.event({ event: "containerExited", name, exitCode }),
  );
  const session = new Session(createHandlers({ helper, hooks, keeper }), (bytes) => port.write(bytes));
  port.onData = (bytes) => session.receive(bytes);
  onLog((level, message) => session.event({ event: "log", level, message }));
  keeper.start();
  // A host that spoke with the agent before this one learns that it must begin anew.
  port.onOpen = () => void port.write(encodeMarker(SYNC_ACK, randomBytes(NONCE_BYTES)));
  port.start();
  await warmUp().catch((error: unknown) => log("error", `kernel facts: ${String(error)}`));
  const slower = (error: unknown): void => log("warn", `the first migration takes longer: ${String(error)}`);
  await keepCriuVersion().catch(slower);
  await letCriuProbe().catch(slower);
}

process.on("unhandledRejection", (reason) => {
  log("error", `unhandled: ${reason instanceof Error ? reason.stack : String(reason)}`);
});
main().catch((error: unknown) => {
  process.stderr.write(`mwarp agent: ${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});
