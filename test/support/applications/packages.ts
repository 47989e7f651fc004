/** Debian packages unpacked beside the guest image, which has no use for them: a lab must not have to download a JDK. */
import { mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { lastLines, run } from "../../../src/lab/exec.js";

/** A JDK is 300 MiB to unpack. */
const UNPACK_MS = 20 * 60_000;

export const packages = [
  "busybox-static",
  "gcc",
  "libc6-dev",
  "make",
  "memcached",
  "nginx",
  "nodejs",
  "openjdk-21-jdk-headless",
  "python3-minimal",
  "python3",
  "sqlite3",
] as const;
export const suite = "trixie";

/** Mounts and processes live in namespaces of their own and die with unshare, which ignores SIGTERM. */
const isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"] as const;

/** Runs a program of the unpacked packages in `root`, on the host's processor. @throws MWARP_E_LAB with its last words */
export const runIn = (root: string, argv: readonly string[]): Promise<string> =>
  run([...isolated, `--root=${root}`, "--mount-proc", ...argv], { timeoutMs: 300_000, endWith: "SIGKILL" });

/** Unpacks the packages and all that they depend on into the new directory `root`. Nothing of them is installed. */
export async function unpackPackages(root: string): Promise<void> {
  const log = `${root}.log`;
  const mirror = process.env.MWARP_DEBIAN_MIRROR;
  const argv = ["mmdebstrap", "--mode=root", "--variant=extract", "--format=directory"];
  const what = [`--include=${packages.join(",")}`, suite, root, ...(mirror === undefined ? [] : [mirror])];
  try {
    await run([...isolated, ...argv, ...what], {
      timeoutMs: UNPACK_MS,
      logFile: log,
      endWith: "SIGKILL",
      // Killed in the middle, mmdebstrap leaves its scratch files: they go with the directory above.
      env: { TMPDIR: dirname(root) },
    });
  } catch (cause) {
    const words = lastLines(readFileSync(log, "utf8"), 12).join("\n");
    throw new Error(`mmdebstrap could not unpack the applications' packages:\n${words}`, { cause });
  }
  rmSync(log);
  // What base-files would bring.
  for (const directory of ["bin", "sbin", "lib", "lib64"])
    symlinkSync(`usr/${directory}`, join(root, directory));
  mkdirSync(join(root, "proc"), { recursive: true });
}
