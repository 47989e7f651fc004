/** Where mWarp's files live. Pure functions of the environment; nothing here touches the disk but `packageRoot`. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export type Environment = Readonly<Record<string, string | undefined>>;

/** Sockets, pids and VM directories: gone after a reboot. */
export function runDir(env: Environment = process.env): string {
  return env.MWARP_RUN_DIR || "/run/mwarp";
}

/** Journals, history and logs: must survive a reboot. */
export function stateDir(env: Environment = process.env): string {
  return env.MWARP_STATE_DIR || "/var/lib/mwarp";
}

/** Guest images and verdicts that can be made again. */
export function cacheDir(env: Environment = process.env): string {
  return env.MWARP_CACHE_DIR || "/var/cache/mwarp";
}

/** The lab as it is: options, resources to give back, VM endpoints. Written by src/lab, read by src/vm/registry.ts. */
export const labFile = (env?: Environment): string => join(runDir(env), "lab.json");
/** VMs attached by the user (`mwarp vm attach`). */
export const vmsFile = (env?: Environment): string => join(stateDir(env), "vms.json");
/** Directory of one lab VM: sockets, console log, pid file. */
export const vmDir = (name: string, env?: Environment): string => join(runDir(env), "vms", name);
export const daemonSocket = (env?: Environment): string => join(runDir(env), "daemon.sock");
export const daemonPidFile = (env?: Environment): string => join(runDir(env), "daemon.pid");
/** Locked for as long as a daemon serves this run directory. */
export const daemonLockFile = (env?: Environment): string => join(runDir(env), "daemon.lock");
export const daemonLogFile = (env?: Environment): string => join(stateDir(env), "daemon.log");
/** Finished migrations' reports. */
export const historyDir = (env?: Environment): string => join(stateDir(env), "history");
/** What exchanging memory costs on this host, as measured. */
export const costsFile = (env?: Environment): string => join(stateDir(env), "costs.json");
/** Root file system archives by digest. */
export const rootfsCacheDir = (env?: Environment): string => join(cacheDir(env), "rootfs");

let root: string | undefined;

/** The directory that holds package.json: in a checkout, an installed package, or below dist/. */
export function packageRoot(): string {
  if (root !== undefined) return root;
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, "package.json"))) {
    const parent = dirname(directory);
    if (parent === directory) throw new Error("package.json of mwarp not found above the running program");
    directory = parent;
  }
  root = directory;
  return directory;
}

/** A file that the build puts below dist/, e.g. `distFile('native', 'libmwarp-vmm.so')`. */
export const distFile = (...parts: string[]): string => join(packageRoot(), "dist", ...parts);
