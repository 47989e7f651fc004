/** runc, as of 1.1. */
import { copyFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import { readIfThere } from "../files.js";
import { runcInItsTime } from "./runc-time.js";
import type { Runtime } from "./runtime.js";

const stateDir = (container: string): string => join("/run/runc", container);
/** Also read by runc-time.ts. */
const stateFile = (container: string): string => join(stateDir(container), "state.json");

const StateSchema = z.object({ external_descriptors: z.optional(z.array(z.string())) });

export const runc: Runtime = {
  name: "runc",
  stateDir,
  // libcontainer/container_linux.go, Restore.
  restoreRoot: (container) => join(stateDir(container), "criu-root"),
  restoresInsideGroup: true,
  async externalDescriptors(container) {
    const text = await readIfThere(stateFile(container));
    if (text === null) throw new MwarpError("MWARP_E_NOT_RUNNING", `runc knows no container ${container}`);
    return StateSchema.parse(JSON.parse(text)).external_descriptors ?? null;
  },
  // It writes its own when CRIU comes to its stage post-restore.
  keepRecord: ({ name, file }) => copyFile(stateFile(name), file),
  async putRecordBack(container, file) {
    const state = stateFile(container);
    await mkdir(dirname(state), { recursive: true, mode: 0o711 });
    await copyFile(file, state);
  },
  executing: (container, initPid, dir) => runcInItsTime(stateFile(container), container, initPid, dir),
};
