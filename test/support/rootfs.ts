/** Root file system of the test containers: busybox and the workloads, all static. */
import { chmodSync, cpSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import path from "node:path";
import { projectRoot } from "./mwarp.js";

const applets = [
  "sh",
  "cat",
  "echo",
  "kill",
  "ls",
  "md5sum",
  "sleep",
  "stat",
  "ip",
  "ps",
  "pidof",
  "dd",
  "mkdir",
  "rm",
  "touch",
  "diff",
];

/** Makes the tree in `directory`, which must not exist. `make workloads` must have run. */
export function makeRootfs(directory: string): void {
  for (const name of ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "root"]) {
    mkdirSync(path.join(directory, name), { recursive: true });
  }
  const bin = path.join(directory, "bin");
  cpSync("/bin/busybox", path.join(bin, "busybox"), { dereference: true });
  for (const applet of applets) symlinkSync("busybox", path.join(bin, applet));
  const workloads = path.join(projectRoot, "dist/test");
  // One program, and its names.
  cpSync(workloads, bin, { recursive: true, verbatimSymlinks: true });
  for (const name of readdirSync(bin)) chmodSync(path.join(bin, name), 0o755);
}
