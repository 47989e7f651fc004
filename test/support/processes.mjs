// Plain JavaScript, because the reaper runs it without a build.
import { readdirSync, readFileSync } from "node:fs";

const GONE = ["ENOENT", "ESRCH", "EACCES", "EINVAL"];

/**
 * A file of /proc, which may vanish while it is read: then "".
 * @param {string} file
 * @returns {string}
 */
export function readProc(file) {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && GONE.includes(String(error.code))) return "";
    throw error;
  }
}

/**
 * Processes of the lab whose run directory is `runDir`: all inherit the variable that names it but the VMs, which get a clean
 * environment and have paths of the directory among their arguments.
 * @param {string} runDir
 * @returns {{ pid: number, command: string }[]}
 */
export function labProcesses(runDir) {
  const commandOf = (/** @type {string} */ pid) => readProc(`/proc/${pid}/cmdline`).replaceAll("\0", " ");
  const variables = (/** @type {string} */ pid) => readProc(`/proc/${pid}/environ`).split("\0");
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter(
      (pid) =>
        variables(pid).includes(`MWARP_RUN_DIR=${runDir}`) || commandOf(pid).includes(`${runDir}/vms/`),
    )
    .map((pid) => ({ pid: Number(pid), command: commandOf(pid).slice(0, 160) }));
}
