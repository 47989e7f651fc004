/** A VM that does one thing: loads a module of ours into a stock kernel, runs its tests and ends. Not a lab: no agent, no network. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { CpioArchive } from "../../src/lab/cpio.js";
import { run } from "../../src/lab/exec.js";
import { ensureImage } from "../../src/lab/image.js";
import { kernelHeaders, kernelTree, modulesFor } from "./kernel-package.js";
import { projectRoot } from "./mwarp.js";

const MIB = 1024 * 1024;
const SWAP_BYTES = 256 * MIB;
const END = "KMOD-TEST-ENDED";
/** What the tests need of the kernel: a disk to swap to, and KVM. Not every kernel has all of them as modules, or at all. */
const GUEST_MODULES = ["virtio_pci", "virtio_blk", "kvm_amd"] as const;

/** The first program of the VM. */
const init = (modules: readonly string[], words: string): string => `#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs dev /dev
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t cgroup2 cgroup /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
for module in ${modules.join(" ")}; do $B insmod /modules/$module.ko; done
$B mkswap /dev/vda >/dev/null
$B swapon /dev/vda
echo 2 >/proc/sys/vm/nr_hugepages
/kmod-test /mwarp.ko ${words}
echo ${END}
$B poweroff -f
`;

export interface KernelModule {
  readonly release: string;
  /** What the compiler said. */
  readonly said: string;
  /** Serial console of a VM with this kernel and the module, in which kmod-test has run with these words. */
  test(words: string, timeoutMs: number): Promise<string>;
}

/** Builds the module for the kernel behind a package like `linux-image-cloud-amd64`, by `make kmod`. */
export async function buildModule(metaPackage: string): Promise<KernelModule> {
  const { busybox } = await ensureImage();
  const { release, directory } = kernelTree(metaPackage, busybox);
  const variables = [`KERNEL=${release}`, `KERNEL_BUILD=${kernelHeaders(release)}`];
  // Anew each time: the test wants to know what the compiler says.
  const built = spawnSync("make", ["--always-make", "kmod", ...variables], {
    cwd: projectRoot,
    encoding: "utf8",
    env: { ...process.env, MAKEFLAGS: "" },
  });
  const said = built.stdout + built.stderr;
  if (built.status !== 0) throw new Error(`make kmod failed:\n${said}`);
  const kernel = path.join(directory, "boot", `vmlinuz-${release}`);
  const guestModules = modulesFor(path.join(directory, "lib/modules", release), GUEST_MODULES);
  const archive = (words: string): CpioArchive => {
    const files = new CpioArchive();
    for (const mountPoint of ["dev", "proc", "sys"]) files.directory(mountPoint);
    for (const { name, contents } of guestModules) files.file(`modules/${name}.ko`, contents);
    const names = guestModules.map(({ name }) => name);
    return files
      .file("init", init(names, words), 0o755)
      .file("bin/busybox", readFileSync(busybox), 0o755)
      .file("kmod-test", readFileSync(path.join(projectRoot, "dist/test-support/kmod-test")), 0o755)
      .file("mwarp.ko", readFileSync(path.join(projectRoot, "dist/kmod", release, "mwarp.ko")));
  };
  return { release, said, test: (words, timeoutMs) => boot(kernel, archive(words), timeoutMs) };
}

async function boot(kernel: string, archive: CpioArchive, timeoutMs: number): Promise<string> {
  const work = mkdtempSync(path.join(tmpdir(), "mwt-kmod-"));
  try {
    const initramfs = path.join(work, "initramfs");
    const swap = path.join(work, "swap");
    writeFileSync(initramfs, archive.toBuffer());
    writeFileSync(swap, "");
    truncateSync(swap, SWAP_BYTES);
    const said = await run(qemu(kernel, initramfs, swap), { timeoutMs });
    if (!said.includes(END)) throw new Error(`the VM ended before its tests did:\n${said}`);
    return said;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Emulated, with an emulated AMD-V: KVM of the guest has nested paging then. */
function qemu(kernel: string, initramfs: string, swap: string): string[] {
  return [
    "qemu-system-x86_64",
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"],
    ...[
      "-accel",
      "tcg,thread=single,tb-size=256",
      "-cpu",
      "max,-erms,-fsrm,+svm,+npt",
      "-smp",
      "2",
      "-m",
      "1G",
    ],
    ...["-kernel", kernel, "-initrd", initramfs, "-append"],
    "console=ttyS0 quiet panic=-1 oops=panic tsc=reliable no_timer_check mitigations=off",
    ...["-drive", `file=${swap},format=raw,if=virtio`, "-serial", "stdio"],
  ];
}

/** Lines of one kind, without the kind: "ok", "not ok" with what the kernel said of it, "skipped". */
export function resultsIn(console: string, kind: "ok" | "not ok" | "skipped"): string[] {
  const lines = console.split(/\r?\n/);
  return lines.filter((line) => line.startsWith(`${kind} `)).map((line) => line.slice(kind.length + 1));
}
