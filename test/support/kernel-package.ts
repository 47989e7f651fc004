/** Kernels of the host's own distribution, and the headers that modules for them are built with: unpacked, in the cache. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { cacheDir } from "../../src/paths.js";

const DOWNLOAD_MS = 300_000;
const MAX_MODULE_BYTES = 64 * 1024 * 1024;

/** The lists of packages may be older than what the mirror has: then they are fetched anew, once. */
function withFreshLists<T>(attempt: () => T): T {
  try {
    return attempt();
  } catch {
    execFileSync("apt-get", ["-q", "update"], { stdio: "pipe", timeout: DOWNLOAD_MS });
    return attempt();
  }
}

/** Packages that the newest version of `name` depends on, as far as they match. @throws when there is none. */
function dependencies(name: string, wanted: RegExp): string[] {
  return withFreshLists(() => {
    const depends = execFileSync("apt-cache", ["depends", name], { encoding: "utf8" });
    const names = [...depends.matchAll(/Depends: (\S+)/g)].map(([, found]) => found);
    const matching = names.filter((found) => wanted.test(found));
    if (matching.length === 0) throw new Error(`apt knows nothing that ${name} depends on:\n${depends}`);
    return matching;
  });
}

/** The packages, unpacked into one directory of the cache that `finish` puts in order before it gets its name. */
function unpacked(directory: string, names: readonly string[], finish: (work: string) => void): string {
  const target = path.join(cacheDir(), directory);
  if (existsSync(target)) return target;
  const work = `${target}.new`;
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  withFreshLists(() =>
    execFileSync("apt-get", ["-q", "download", ...names], { cwd: work, stdio: "pipe", timeout: DOWNLOAD_MS }),
  );
  for (const file of readdirSync(work).filter((name) => name.endsWith(".deb"))) {
    execFileSync("dpkg-deb", ["-x", file, "."], { cwd: work });
    rmSync(path.join(work, file));
  }
  finish(work);
  renameSync(work, target);
  return target;
}

export interface KernelTree {
  /** As `uname -r` says it. */
  readonly release: string;
  /** With `boot/` and `lib/modules/RELEASE/`, the modules' index written. */
  readonly directory: string;
}

/**
 * The kernel behind a package like `linux-image-cloud-amd64`.
 * @param busybox a static one, whose depmod writes the index
 */
export function kernelTree(metaPackage: string, busybox: string): KernelTree {
  const [name] = dependencies(metaPackage, /^linux-image-\d/);
  const directory = unpacked(`kernel-${name}`, [name], (work) => {
    const [release] = readdirSync(path.join(work, "lib/modules"));
    execFileSync(busybox, ["depmod", "-b", work, release], { stdio: "pipe" });
  });
  const [release] = readdirSync(path.join(directory, "lib/modules"));
  return { release, directory };
}

/** The directory that a module for this kernel is built in, as /lib/modules/RELEASE/build is where headers are installed. */
export function kernelHeaders(release: string): string {
  const name = `linux-headers-${release}`;
  const others = dependencies(name, /^linux-(headers|kbuild)-/);
  const directory = unpacked(`headers-${release}`, [name, ...others], (work) => {
    const build = path.join(work, "usr/src", name);
    // It names its other half where that is installed.
    const makefile = path.join(build, "Makefile");
    const target = work.slice(0, -".new".length);
    writeFileSync(makefile, readFileSync(makefile, "utf8").replaceAll("/usr/src/", `${target}/usr/src/`));
    // Only type information is made from it, by a program that is not needed otherwise.
    rmSync(path.join(build, "vmlinux"), { force: true });
  });
  return path.join(directory, "usr/src", name);
}

/**
 * The named modules of a kernel and all that they need, in the order in which they can be loaded. What is no module is built in.
 * @param directory `lib/modules/RELEASE` of a tree
 * @param names with underscores
 */
export function modulesFor(
  directory: string,
  names: readonly string[],
): { name: string; contents: Buffer }[] {
  const files = closure(moduleNeeds(path.join(directory, "modules.dep")), names);
  return files.map((file) => {
    const whole = path.join(directory, file);
    const contents = file.endsWith(".xz")
      ? execFileSync("xz", ["-dc", whole], { maxBuffer: MAX_MODULE_BYTES })
      : readFileSync(whole);
    return { name: nameOf(file), contents };
  });
}

const nameOf = (file: string): string => path.basename(file).replace(/\.ko(\.xz)?$/, "");

/** modules.dep: a module's file, and those it needs, the ones to load first last. */
function moduleNeeds(file: string): Map<string, string[]> {
  const lines = readFileSync(file, "utf8").trim().split("\n");
  return new Map(
    lines.map((line) => {
      const [module, needs = ""] = line.split(":");
      return [module, needs.trim().split(" ").filter(Boolean)];
    }),
  );
}

/** Files of the named modules and of all they need, in the order in which they can be loaded. */
function closure(files: ReadonlyMap<string, readonly string[]>, names: readonly string[]): string[] {
  const ordered = new Set<string>();
  const add = (file: string): void => {
    if (ordered.has(file)) return;
    for (const needed of files.get(file) ?? []) add(needed);
    ordered.add(file);
  };
  for (const name of names) {
    const file = [...files.keys()].find((key) => nameOf(key).replaceAll("-", "_") === name);
    // What is no module is built in.
    if (file !== undefined) add(file);
  }
  return [...ordered];
}
