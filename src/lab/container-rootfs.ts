/** Small root file systems for containers, cut out of the guest image: `mwarp run --rootfs DIR` takes them. */
import { copyFileSync, existsSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { run } from "./exec.js";

/** Programs of each root file system, besides busybox. */
export const containerPrograms: Readonly<Record<string, readonly string[]>> = {
  busybox: [],
  redis: ["/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/redis-benchmark"],
};

const passwd = `root:x:0:0:root:/root:/bin/sh
redis:x:100:100:redis:/var/lib/redis:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
`;
const group = `root:x:0:
redis:x:100:
nogroup:x:65534:
`;

/** Libraries and loader that a dynamic program needs, as paths in `root`. */
async function librariesOf(
  root: string,
  program: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const text = await run(["chroot", root, "ldd", program], { signal });
  return [...text.matchAll(/(\/\S+) \(0x[0-9a-f]+\)/g)].map((match) => match[1]);
}

/** Copies a file of the guest image, following links, to the same path below `target`. */
function copyFrom(root: string, target: string, path: string): void {
  // Debian's /bin and /lib are links into /usr, on both sides: write where they lead.
  const to = join(target, path.replace(/^\/(bin|sbin|lib|lib64)\//, "/usr/$1/"));
  mkdirSync(dirname(to), { recursive: true });
  if (!existsSync(to)) copyFileSync(resolveIn(root, path), to);
}

/** The real file behind a path of `root`; absolute links inside it lead back into it. */
function resolveIn(root: string, path: string): string {
  const real = realpathSync(join(root, path));
  return real.startsWith(`${realpathSync(root)}/`) ? real : join(root, real);
}

/** Makes one root file system of the programs of `root` in the new directory `target`. */
export async function exportRootfs(
  root: string,
  target: string,
  programs: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const directory of [
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/lib64",
    "etc",
    "proc",
    "sys",
    "dev",
    "run",
    "home",
  ])
    mkdirSync(join(target, directory), { recursive: true });
  for (const directory of ["bin", "sbin", "lib", "lib64"])
    symlinkSync(`usr/${directory}`, join(target, directory));
  mkdirSync(join(target, "root"), { mode: 0o700 });
  mkdirSync(join(target, "var/lib/redis"), { recursive: true });
  await run(["install", "-d", "-m", "1777", join(target, "tmp"), join(target, "data")], { signal });
  writeFileSync(join(target, "etc/passwd"), passwd);
  writeFileSync(join(target, "etc/group"), group);
  writeFileSync(join(target, "etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n");
  writeFileSync(join(target, "etc/hosts"), "127.0.0.1 localhost\n");

  copyFrom(root, target, "/usr/bin/busybox");
  const applets = await run([join(root, "usr/bin/busybox"), "--list"], { signal });
  for (const applet of applets.trim().split("\n")) {
    if (applet !== "busybox" && applet !== "") symlinkSync("busybox", join(target, "usr/bin", applet));
  }
  for (const program of programs) {
    copyFrom(root, target, program);
    for (const library of await librariesOf(root, program, signal)) copyFrom(root, target, library);
  }
}
