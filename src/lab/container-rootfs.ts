/** Small root file systems for containers, cut out of the guest image: `mwarp run --rootfs DIR` takes them. */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { run } from "./exec.js";
import { createCluster, postgresUser } from "./postgres-cluster.js";

/** What a root file system holds besides busybox. */
export interface Contents {
  /** Programs and loadable modules; the libraries that they need come with them. */
  readonly programs: readonly string[];
  /** Files, and directories that are taken whole but for entries of the names `without`. */
  readonly trees: readonly string[];
  readonly without?: readonly string[];
  /** Where programs and trees lie in the guest image; their paths in the root file system are those without it. */
  readonly prefix: string;
}

/** Where packages are unpacked that the guest itself has no use for; not in the image when it is done. */
export const UNPACKED = "/unpacked";

/** Debian packages that are unpacked there. Installed they would bring LLVM and Perl, and a server that starts. */
export const unpackedPackages = ["postgresql-17"] as const;

const postgres = "/usr/lib/postgresql/17";

export const containerContents = {
  busybox: { programs: [], trees: [], prefix: "" },
  redis: {
    programs: ["/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/redis-benchmark"],
    trees: [],
    prefix: "",
  },
  /** With a database cluster in /var/lib/postgresql/main, which every host of its network may use without a password. */
  postgres: {
    programs: [
      ...["postgres", "initdb"].map((program) => `${postgres}/bin/${program}`),
      ...["plpgsql", "dict_snowball"].map((module) => `${postgres}/lib/${module}.so`),
    ],
    trees: ["/usr/share/postgresql/17"],
    prefix: UNPACKED,
  },
} as const satisfies Record<string, Contents>;
export type ContainerRootfs = keyof typeof containerContents;

const passwd = `root:x:0:0:root:/root:/bin/sh
redis:x:100:100:redis:/var/lib/redis:/bin/sh
postgres:x:${postgresUser.uid}:${postgresUser.gid}:postgres:/var/lib/postgresql:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
`;
const group = `root:x:0:
redis:x:100:
postgres:x:${postgresUser.gid}:
nogroup:x:65534:
`;

/** Libraries and loader that a dynamic program needs, as paths in `root`. */
async function librariesOf(
  root: string,
  program: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  // What ldd does, which is a script for a shell that `root` need not have.
  const text = await run(["chroot", root, "/lib64/ld-linux-x86-64.so.2", "--list", program], { signal });
  return [...text.matchAll(/(\/\S+) \(0x[0-9a-f]+\)/g)].map((match) => match[1]);
}

/** Copies a file of the guest image, following links, to the same path below `target`, less `prefix`. */
function copyFrom(root: string, target: string, path: string, prefix = ""): void {
  // Debian's /bin and /lib are links into /usr, on both sides: write where they lead.
  const inside = path.slice(prefix.length).replace(/^\/(bin|sbin|lib|lib64)\//, "/usr/$1/");
  const to = join(target, inside);
  mkdirSync(dirname(to), { recursive: true });
  if (!existsSync(to)) copyFileSync(resolveIn(root, path), to);
  // Also by its bare name.
  const short = join(target, "usr/bin", basename(inside));
  if (dirname(inside).endsWith("/bin") && !existsSync(short)) symlinkSync(inside, short);
}

/** The real file behind a path of `root`; absolute links inside it lead back into it. */
function resolveIn(root: string, path: string): string {
  const real = realpathSync(join(root, path));
  return real.startsWith(`${realpathSync(root)}/`) ? real : join(root, real);
}

/** Makes one root file system out of what lies in the guest image `root`, in the new directory `target`. */
export async function exportRootfs(
  root: string,
  target: string,
  name: ContainerRootfs,
  signal: AbortSignal | undefined,
): Promise<void> {
  await cutRootfs(root, target, containerContents[name], signal);
  if (name === "postgres") await createCluster(target, signal);
}

/**
 * Makes a root file system with busybox and `contents` out of what lies in `root`, in the new directory `target`.
 * @throws MWARP_E_LAB with the loader's words when a program of `root` lacks a library
 */
export async function cutRootfs(
  root: string,
  target: string,
  { programs, trees, prefix, without = [] }: Contents,
  signal: AbortSignal | undefined,
): Promise<void> {
  await makeSkeleton(root, target, signal);
  for (const program of programs.map((path) => prefix + path)) {
    copyFrom(root, target, program, prefix);
    for (const library of await librariesOf(root, program, signal)) copyFrom(root, target, library);
  }
  const filter = (path: string): boolean => !without.includes(basename(path));
  for (const tree of trees)
    cpSync(join(root, prefix, tree), join(target, tree), { recursive: true, dereference: true, filter });
}

/** Directories, users and busybox. */
async function makeSkeleton(root: string, target: string, signal: AbortSignal | undefined): Promise<void> {
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
}
