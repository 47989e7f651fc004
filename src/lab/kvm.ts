/**
 * Whether /dev/kvm really runs a guest. That the device exists says little: nested and restricted hosts have one that
 * fails at the first instruction. So a tiny guest is booted, once per boot of the host.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod/mini";
import { isMwarpError } from "../errors.js";
import { cacheDir, runDir } from "../paths.js";
import { CpioArchive } from "./cpio.js";
import { run } from "./exec.js";
import type { GuestImage } from "./image.js";
import type { LabCallOptions } from "./progress.js";

const PROBE_TIMEOUT_MS = 15_000;
const MARKER = "MWARP-KVM-RUNS";

const VerdictSchema = z.object({ bootId: z.string(), works: z.boolean(), reason: z.string() });

export interface KvmVerdict {
  readonly works: boolean;
  readonly reason: string;
}

const bootId = (): string => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
const verdictFile = (): string => join(cacheDir(), "kvm.json");

/** The verdict of this boot of the host, when there is one. */
export function knownKvmVerdict(): KvmVerdict | null {
  if (!existsSync("/dev/kvm")) return { works: false, reason: "the host has no /dev/kvm" };
  if (!existsSync(verdictFile())) return null;
  try {
    const known = VerdictSchema.safeParse(JSON.parse(readFileSync(verdictFile(), "utf8")));
    return known.success && known.data.bootId === bootId() ? known.data : null;
  } catch {
    return null; // cut short by a crash: probe again
  }
}

/** Boots a tiny guest under KVM, unless this boot's verdict is known. @throws MWARP_E_CANCELLED */
export async function probeKvm(image: GuestImage, options: LabCallOptions = {}): Promise<KvmVerdict> {
  const known = knownKvmVerdict();
  if (known !== null) return known;
  options.onProgress?.({ step: "probe", message: "trying whether /dev/kvm runs a guest" });
  const directory = join(runDir(), "probe");
  mkdirSync(directory, { recursive: true });
  try {
    const verdict = await boot(image, directory, options.signal);
    const temporary = `${verdictFile()}.${process.pid}.tmp`;
    writeFileSync(temporary, `${JSON.stringify({ bootId: bootId(), ...verdict })}\n`);
    renameSync(temporary, verdictFile());
    return verdict;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function boot(
  image: GuestImage,
  directory: string,
  signal: AbortSignal | undefined,
): Promise<KvmVerdict> {
  const init = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
echo ${MARKER} >/dev/console
/bin/busybox poweroff -f
`;
  const archive = new CpioArchive().directory("dev").file("init", init, 0o755);
  writeFileSync(
    join(directory, "initramfs"),
    archive.file("bin/busybox", readFileSync(image.busybox), 0o755).toBuffer(),
  );
  const console = join(directory, "console.log");
  const argv = [
    "qemu-system-x86_64",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
    "-m",
    "256M",
  ];
  argv.push("-machine", "q35", "-accel", "kvm", "-cpu", "host", "-kernel", image.kernel);
  argv.push("-initrd", join(directory, "initramfs"), "-append", "console=ttyS0 quiet panic=-1");
  argv.push("-serial", `file:${console}`);
  const spoke = (): boolean => existsSync(console) && readFileSync(console, "latin1").includes(MARKER);
  try {
    await run(argv, { signal, timeoutMs: PROBE_TIMEOUT_MS });
  } catch (error) {
    if (!isMwarpError(error) || error.code === "MWARP_E_CANCELLED") throw error;
    if (!spoke())
      return { works: false, reason: `a trial guest did not run: ${error.details[0] ?? error.message}` };
  }
  return spoke()
    ? { works: true, reason: "a trial guest ran under KVM" }
    : { works: false, reason: "a trial guest under KVM ended without a word" };
}
