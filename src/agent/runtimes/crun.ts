/**
 * crun, as of 1.21. It drives CRIU through libcriu, which starts `criu swrk FD` like runc does, so the same programs can stand between
 * the two (native/guest/swrk.c). It makes its record of a restored container when CRIU has let that go, which is too late for a
 * crun that is killed before; so mWarp makes one like it.
 */
import { copyFile, mkdir, readlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import { readIfThere } from "../files.js";
import { cgroupsPath, containerPaths } from "../paths.js";
import { startOf } from "./runc-time.js";
import type { RestoredContainer, Runtime } from "./runtime.js";

const stateDir = (container: string): string => join("/run/crun", container);
const statusFile = (container: string): string => join(stateDir(container), "status");

/** The descriptors are JSON within JSON. */
const StatusSchema = z.object({ external_descriptors: z.optional(z.string()) });
const DescriptorsSchema = z.array(z.string());

export const crun: Runtime = {
  name: "crun",
  stateDir,
  // src/libcrun/criu.c, libcrun_container_restore_linux_criu.
  restoreRoot: (container) => join(containerPaths(container).bundle, "criu-root"),
  restoresInsideGroup: false,
  async externalDescriptors(container) {
    const text = await readIfThere(statusFile(container));
    if (text === null) throw new MwarpError("MWARP_E_NOT_RUNNING", `crun knows no container ${container}`);
    const { external_descriptors } = StatusSchema.parse(JSON.parse(text));
    return external_descriptors === undefined
      ? null
      : DescriptorsSchema.parse(JSON.parse(external_descriptors));
  },
  keepRecord: async (container) => writeFile(container.file, JSON.stringify(await status(container))),
  async putRecordBack(container, file) {
    const kept = statusFile(container);
    await mkdir(dirname(kept), { recursive: true, mode: 0o700 });
    // It reads the configuration from there, too.
    await copyFile(containerPaths(container).config, join(dirname(kept), "config.json"));
    await copyFile(file, kept);
  },
  // It enters a container's time namespace by itself, and tells a process by the start that this VM's clock says.
  executing: async () => ["crun"],
};

/** src/libcrun/status.c, libcrun_write_container_status. */
async function status({ name, initPid }: RestoredContainer): Promise<Readonly<Record<string, unknown>>> {
  const { bundle, merged } = containerPaths(name);
  const stat = (await readIfThere(`/proc/${initPid}/stat`)) ?? "";
  const links = [0, 1, 2].map((fd) => readlink(`/proc/${initPid}/fd/${fd}`).catch(() => "/dev/null"));
  return {
    pid: initPid,
    "process-start-time": Number(startOf(stat)),
    "cgroup-path": cgroupsPath(name),
    scope: "",
    intelrdt: "",
    rootfs: merged,
    "systemd-cgroup": false,
    bundle,
    created: new Date().toISOString(),
    owner: "root",
    detached: true,
    external_descriptors: JSON.stringify(await Promise.all(links)),
  };
}
