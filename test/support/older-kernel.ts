/**
 * A guest with another kernel than the lab's: Debian 12's 6.1, from the package of the host's own distribution. Its modules are
 * not where the lab's initramfs expects them, so the guest gets an initramfs with a second archive behind the first; in
 * what both hold the later one counts.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { CpioArchive } from "../../src/lab/cpio.js";
import { bootModules, initramfsInit, lateModules, networkModules } from "../../src/lab/guest-files.js";
import { ensureImage, type GuestImage } from "../../src/lab/image.js";
import { buildInitramfs } from "../../src/lab/initramfs.js";
import { cacheDir } from "../../src/paths.js";

const META_PACKAGE = "linux-image-cloud-amd64";
/** Built into the lab's own kernel, or loaded there when CRIU first needs it; modules in this one. */
const ALSO_AT_BOOT = ["virtio_pci", "virtio_console", "virtio_rng", "ext4", "nf_conntrack_netlink"] as const;

export interface OtherKernel {
  /** As `uname -r` says it. */
  readonly release: string;
  /** Arguments for QEMU, in place of the lab's own. */
  readonly arguments: readonly string[];
}

/** @param directory where the initramfs is written */
export async function olderKernel(directory: string): Promise<OtherKernel> {
  const image = await ensureImage();
  const tree = kernelTree(image);
  const [release] = readdirSync(path.join(tree, "lib/modules"));
  const initramfs = path.join(directory, "initramfs-older");
  buildInitramfs(image, initramfs);
  writeFileSync(initramfs, moduleArchive(path.join(tree, "lib/modules", release)), { flag: "a" });
  const kernel = path.join(tree, "boot", `vmlinuz-${release}`);
  return { release, arguments: ["-kernel", kernel, "-initrd", initramfs] };
}

/** The unpacked package, in the cache. */
function kernelTree(image: GuestImage): string {
  const depends = execFileSync("apt-cache", ["depends", META_PACKAGE], { encoding: "utf8" });
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (name === undefined) throw new Error(`apt knows no kernel behind ${META_PACKAGE}:\n${depends}`);
  const target = path.join(cacheDir(), `kernel-${name}`);
  if (existsSync(target)) return target;
  const work = `${target}.new`;
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  execFileSync("apt-get", ["-q", "download", name], { cwd: work, stdio: "pipe", timeout: 300_000 });
  const [file] = readdirSync(work);
  execFileSync("dpkg-deb", ["-x", file, "."], { cwd: work });
  rmSync(path.join(work, file));
  const [release] = readdirSync(path.join(work, "lib/modules"));
  execFileSync(image.busybox, ["depmod", "-b", work, release], { stdio: "pipe" });
  renameSync(work, target);
  return target;
}

/**
 * Modules for the initramfs, and an `init` that loads them: all that the guest will need, at once. The guest's own modprobe
 * wants an index that only its own depmod writes.
 */
function moduleArchive(modules: string): Buffer {
  const archive = new CpioArchive();
  const wanted = [...ALSO_AT_BOOT, ...bootModules, ...networkModules, ...lateModules];
  const files = closure(dependencies(path.join(modules, "modules.dep")), wanted);
  for (const file of files)
    archive.file(`modules/${path.basename(file)}`, readFileSync(path.join(modules, file)));
  const names = files.map((file) => path.basename(file, ".ko")).join(" ");
  const init = initramfsInit.replace(`for module in ${bootModules.join(" ")};`, `for module in ${names};`);
  return archive.file("init", init, 0o755).toBuffer();
}

/** modules.dep: a module's file, and those it needs, the ones to load first last. */
function dependencies(file: string): Map<string, string[]> {
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
    const file = [...files.keys()].find((key) => path.basename(key, ".ko").replaceAll("-", "_") === name);
    // What is no module is built in.
    if (file !== undefined) add(file);
  }
  return [...ordered];
}
