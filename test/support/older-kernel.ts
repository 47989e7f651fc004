/**
 * A guest with another kernel than the lab's: Debian 12's 6.1, from the package of the host's own distribution. Its modules are
 * not where the lab's initramfs expects them, so the guest gets an initramfs with a second archive behind the first; in
 * what both hold the later one counts.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { CpioArchive } from "../../src/lab/cpio.js";
import { bootModules, initramfsInit, lateModules, networkModules } from "../../src/lab/guest-files.js";
import { ensureImage } from "../../src/lab/image.js";
import { buildInitramfs } from "../../src/lab/initramfs.js";
import { kernelTree, modulesFor } from "./kernel-package.js";

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
  const { release, directory: tree } = kernelTree(META_PACKAGE, image.busybox);
  const initramfs = path.join(directory, "initramfs-older");
  buildInitramfs(image, initramfs);
  writeFileSync(initramfs, moduleArchive(path.join(tree, "lib/modules", release)), { flag: "a" });
  const kernel = path.join(tree, "boot", `vmlinuz-${release}`);
  return { release, arguments: ["-kernel", kernel, "-initrd", initramfs] };
}

/**
 * Modules for the initramfs, and an `init` that loads them: all that the guest will need, at once. The guest's own modprobe
 * wants an index that only its own depmod writes.
 */
function moduleArchive(modules: string): Buffer {
  const archive = new CpioArchive();
  const wanted = [...ALSO_AT_BOOT, ...bootModules, ...networkModules, ...lateModules];
  const files = modulesFor(modules, wanted);
  for (const { name, contents } of files) archive.file(`modules/${name}.ko`, contents);
  const names = files.map(({ name }) => name).join(" ");
  const init = initramfsInit.replace(`for module in ${bootModules.join(" ")};`, `for module in ${names};`);
  return archive.file("init", init, 0o755).toBuffer();
}
