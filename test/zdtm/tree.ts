/** Root file system of the containers that CRIU's test programs run in: the programs, each in its directory, and their libraries. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { run } from "../../src/lab/exec.js";
import { projectRoot } from "../support/mwarp.js";
import type { Program } from "./programs.js";

/** What the test programs call besides themselves, and `kill`, by which the tests ask for the verdicts. */
const applets = ["sh", "cat", "kill", "sleep", "true", "ip", "sort", "grep", "diff", "sed", "ls", "ps"];
const anybody = 0o777;

/** Makes the tree in `directory`, which must not exist. */
export async function makeTree(directory: string, programs: readonly Program[]): Promise<void> {
  for (const name of ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "root", "lib64", "zdtm"])
    mkdirSync(path.join(directory, name), { recursive: true });
  chmodSync(path.join(directory, "tmp"), 0o1777);
  const bin = path.join(directory, "bin");
  copyFileSync("/bin/busybox", path.join(bin, "busybox"));
  for (const applet of applets) symlinkSync("busybox", path.join(bin, applet));
  copyFileSync(path.join(projectRoot, "dist/test-support/zdtm-init"), path.join(bin, "zdtm-init"));
  const files: string[] = [];
  for (const { name, file, description, arguments: words } of programs) {
    if (file === null) continue;
    const own = path.join(directory, "zdtm", name);
    mkdirSync(own);
    chmodSync(own, anybody);
    writeFileSync(
      path.join(own, "command"),
      [description.flags.has("suid") ? "root" : "user", ...words].join(" "),
    );
    copyFileSync(file, path.join(own, name));
    files.push(path.join(own, name));
  }
  if (files.length === 0) return;
  // Debugging information is three quarters of it, and the tree lies in the guests' memory.
  await run(["strip", ...files]);
  await copyLibraries(directory, files);
}

/** What the programs are linked with on this machine: ldd is asked once for each set of names. */
async function copyLibraries(directory: string, files: readonly string[]): Promise<void> {
  // It names its files only where there are several.
  const text = await run(["readelf", "--wide", "--dynamic", ...files, files[0]!]);
  const bySet = new Map<string, string>();
  for (const section of text.split(/^File: /m).slice(1)) {
    const needed = [...section.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1]);
    bySet.set(needed.sort().join(), section.slice(0, section.indexOf("\n")));
  }
  const libraries = await run(["ldd", ...bySet.values()]);
  for (const [, library] of libraries.matchAll(/(\/\S+) \(0x[0-9a-f]+\)/g)) {
    const to = path.join(directory, library!);
    mkdirSync(path.dirname(to), { recursive: true });
    if (!existsSync(to)) copyFileSync(realpathSync(library!), to);
  }
}
