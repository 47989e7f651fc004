/** What speaks against a migration between two guests, each reason with its code. Pure: facts in, reasons out. */
import type { ErrorCode } from "../errors.js";
import type { AgentResult, Toolset } from "../protocol/agent.js";
import type { RuntimeName } from "../protocol/container.js";
import type { GuestInfo } from "../protocol/guest-info.js";
import type { MigrationRequest } from "../protocol/migration.js";
import type { VmHazards } from "../vm/hazards.js";
import type { MemoryBacking, VmEndpoint } from "../vm/types.js";
import type { VmmIdentity } from "./journal.js";
import type { OpenMigration } from "./journals.js";
import { versionAtLeast } from "./versions.js";

/** CRIU below 4.0 fails in runc's action scripts (3.17 hits a BUG(); tried). */
const MIN_CRIU = "4.0";
/** runc before 1.1.10 passes action scripts and parent images differently. */
const MIN_RUNC = "1.1.10";
/** The one that was tried. */
const MIN_CRUN = "1.21";
/** Room the destination guest needs beside the container's own memory: skeleton images, page tables, CRIU itself. */
export const DESTINATION_HEADROOM_BYTES = 96 * 1024 * 1024;

export interface Reason {
  readonly code: ErrorCode;
  readonly message: string;
  /** What to do, where the error table does not say it well enough. */
  readonly hint?: string;
  /** What else is known of the cause. */
  readonly details?: readonly string[];
}

/** @param runtime that of the container */
export function guestReasons(
  vm: string,
  info: GuestInfo,
  act: "dump" | "restore",
  runtime: RuntimeName,
): Reason[] {
  const reasons: Reason[] = [];
  if (info.criuVersion === null || !versionAtLeast(info.criuVersion, MIN_CRIU)) {
    reasons.push({
      code: "MWARP_E_CRIU_TOO_OLD",
      message: `CRIU in ${vm} is ${info.criuVersion ?? "missing"}; to ${act}, ${MIN_CRIU} or newer is needed`,
    });
  }
  if (runtime === "crun") return [...reasons, ...crunReasons(vm, info)];
  if (info.runcVersion === null || !versionAtLeast(info.runcVersion, MIN_RUNC)) {
    reasons.push({
      code: "MWARP_E_RUNC_TOO_OLD",
      message: `runc in ${vm} is ${info.runcVersion ?? "missing"}; ${MIN_RUNC} or newer is needed`,
    });
  }
  return reasons;
}

function crunReasons(vm: string, { crun, quickTools }: GuestInfo): Reason[] {
  const code = "MWARP_E_CRUN_TOO_OLD";
  if (crun === null || !versionAtLeast(crun.version, MIN_CRUN))
    return [
      { code, message: `crun in ${vm} is ${crun?.version ?? "missing"}; ${MIN_CRUN} or newer is needed` },
    ];
  if (!crun.criu)
    return [
      {
        code,
        message: `crun in ${vm} cannot use CRIU`,
        hint: "Install CRIU's library (Debian: libcriu2), and a crun whose --version says +CRIU.",
      },
    ];
  return quickTools ? [] : [{ code: "MWARP_E_UNSUPPORTED", message: `${vm} lacks criu or tar in its PATH` }];
}

/** crun hands CRIU no page server and no lazy pages. */
export function runtimeReasons({ method }: MigrationRequest, runtime: RuntimeName): Reason[] {
  if (runtime !== "crun" || method === "warp") return [];
  return [
    {
      code: "MWARP_E_UNSUPPORTED",
      message: `crun, which runs the container, cannot send memory over a network: no --method ${method}`,
      hint: "Use --method warp, or run the container with --runtime runc.",
    },
  ];
}

/** Resources of the container that cannot be moved, as the source's agent names them. */
export function resourceReasons(resources: readonly string[]): Reason[] {
  // libuv, and so Node.js, makes its rings unasked.
  const hint =
    "Start the program where a seccomp filter forbids io_uring, as `mwarp run` does without a bundle and other engines do by default: Node.js and most others do without.";
  return resources.map((what) => ({
    code: "MWARP_E_UNSUPPORTED",
    message: `cannot be moved: ${what}`,
    ...(what.endsWith(": io_uring") ? { hint } : {}),
    ...(what.startsWith("mount at ")
      ? { hint: howToMount(/^mount at (.*): /.exec(what)?.[1] ?? "/PATH") }
      : {}),
  }));
}

/** What of a container stock CRIU would not bring back; with quick tools a library of ours does. */
export function stockReasons(tools: Toolset, needsLibrary: readonly string[]): Reason[] {
  if (tools === "quick") return [];
  return needsLibrary.map((what) => ({
    code: "MWARP_E_UNSUPPORTED",
    message: `CRIU by itself would take away ${what}`,
    hint: "Use --method warp, or end the named processes: the first process of a container keeps its terminal.",
  }));
}

const howToMount = (point: string): string =>
  `Unmount it, or run the container with what is there as a volume: --volume NAME:${point}, which moves with it, or ` +
  `--volume /path/in/vm:${point}:shared, which all VMs have.`;

/**
 * Words among the flags by which a kernel notes what it made of the processor, not what the processor can do
 * (arch/x86/include/asm/cpufeatures.h, the words "Linux-defined"). They differ between kernels on one processor, and no
 * program can use them.
 */
const KERNEL_NOTES: ReadonlySet<string> = new Set(
  (
    "xtopology rep_good nopl cpuid constant_tsc nonstop_tsc nonstop_tsc_s3 tsc_known_freq tsc_reliable arch_perfmon " +
    "pebs bts art acc_power extd_apicid amd_dcm aperfmperf rapl cpb ebp_pcid pti cpuid_fault fence_swapgs_user " +
    "fence_swapgs_kernel split_lock_detect bus_lock_detect per_thread_mba sgx1 sgx2 ring3mwait hw_pstate " +
    "proc_feedback ibrs ibpb stibp ssbd ibrs_enhanced retpoline rsb_ctxsw use_ibpb zen vmmcall tpr_shadow vnmi " +
    "flexpriority ept vpid ept_ad epb cat_l2 cat_l3 cdp_l2 cdp_l3 mba cqm_llc cqm_occup_llc cqm_mbm_total " +
    "cqm_mbm_local user_shstk amd_lbr_v2"
  ).split(" "),
);

/** What a processor says of the package it is in, not of itself: a VM with one virtual processor says it of none. */
const PACKAGE_NOTES: ReadonlySet<string> = new Set(["ht", "cmp_legacy"]);

/**
 * A task that has seen a CPU feature may use it at any time (ifuncs are bound once), so the destination must have all of them.
 * CRIU refuses a smaller XSAVE area, too, but only when the container stands still (criu/arch/x86/cpu.c).
 */
export function cpuReasons(source: GuestInfo, destination: GuestInfo): Reason[] {
  const reasons: Reason[] = [];
  const unsupported = (message: string): void => void reasons.push({ code: "MWARP_E_UNSUPPORTED", message });
  const offered = new Set(destination.cpuFlags);
  const missing = source.cpuFlags.filter(
    (flag) => !offered.has(flag) && !KERNEL_NOTES.has(flag) && !PACKAGE_NOTES.has(flag),
  );
  if (missing.length > 0) unsupported(`the destination's processor lacks ${missing.join(" ")}`);
  const [had, has] = [source.signalFrameBytes, destination.signalFrameBytes];
  if (had > has && has > 0)
    unsupported(
      `the destination's processor has a smaller XSAVE area: a signal frame of ${has} bytes, not ${had}`,
    );
  return reasons;
}

/** The container's addresses go with it, and connections that nobody has accepted yet. */
export function networkReasons(
  { spec, waitingPorts }: AgentResult<"source.inspect">,
  destination: GuestInfo,
): Reason[] {
  const reasons: Reason[] = [];
  const unsupported = (message: string, hint?: string): void =>
    void reasons.push({ code: "MWARP_E_UNSUPPORTED", message, ...(hint === undefined ? {} : { hint }) });
  const { ipv6 } = spec.network;
  if (ipv6 !== null && !destination.ipv6)
    unsupported(`the destination's kernel has no IPv6, and the container has the address ${ipv6.address}`);
  if (waitingPorts.length > 0 && !destination.admitsConnections)
    unsupported(
      `TCP connections at port ${waitingPorts.join(" and ")} wait to be accepted, which the destination's kernel cannot take over`,
      "Try again when the container has accepted them, or move it to a VM with Linux 6.8 or newer.",
    );
  return reasons;
}

/**
 * Memory the destination must have: the container's own, what the source has in swap included (it comes as bytes), and where
 * its pages lie on tmpfs first, a second time. Shared memory is in the images of every method; the writable layer, which lies on
 * tmpfs, too, is counted by itself.
 */
function neededBytes(request: MigrationRequest, usage: AgentResult<"source.inspect">): number {
  const memory = Math.max(usage.anonymousBytes, usage.memoryBytes) + usage.swapBytes;
  const throughImages = request.method === "cold" || request.method === "precopy";
  const shared = Math.max(0, usage.sharedBytes - usage.writableLayerBytes);
  const images = shared + (throughImages ? usage.anonymousBytes + usage.swapBytes : 0);
  return memory + images + usage.writableLayerBytes + DESTINATION_HEADROOM_BYTES;
}

export function memoryReasons(
  request: MigrationRequest,
  usage: AgentResult<"source.inspect">,
  destination: GuestInfo,
): Reason[] {
  const reasons: Reason[] = [];
  const refuse = (message: string): void => void reasons.push({ code: "MWARP_E_NO_MEMORY", message });
  const needed = neededBytes(request, usage);
  if (destination.memAvailableBytes < needed)
    refuse(
      `${request.to} has ${mib(destination.memAvailableBytes)} MiB available, the move needs ${mib(needed)} MiB`,
    );
  // What is in swap here, and pages shared after a fork, count there against the limit: the kernel would kill for it.
  const { memoryLimitBytes: limit, anonymousBytes, swapBytes } = usage;
  if (limit !== null && anonymousBytes + swapBytes > limit + destination.swapTotalBytes)
    refuse(
      `the container may use ${mib(limit)} MiB of memory; its processes have ${mib(anonymousBytes)} MiB, each for itself, ` +
        `and ${mib(swapBytes)} MiB in swap; ${request.to} has ${mib(destination.swapTotalBytes)} MiB of swap`,
    );
  return reasons;
}

const mib = (bytes: number): number => Math.ceil(bytes / 1024 / 1024);

/** Whether the memory of a VM can be exchanged as asked. `backing`: null where that is not known, or does not matter. */
export function backingReasons(
  request: MigrationRequest,
  { name, vmmSocket }: VmEndpoint,
  backing: MemoryBacking | null,
): Reason[] {
  if (backing === null) return [];
  if (backing.kind === "unsuitable") {
    const message = `memory of ${name} cannot be exchanged: ${backing.reason}`;
    return [{ code: "MWARP_E_MEMORY_NOT_SHARED", message }];
  }
  if (request.backend !== "remap" || vmmSocket !== null) return [];
  const message = `${name} runs without the preloaded library, so --backend remap cannot be had; --backend copy can`;
  return [{ code: "MWARP_E_UNSUPPORTED", message }];
}

/** What in a VM forbids to change its memory from outside, or to change it as asked. */
export function hazardReasons(request: MigrationRequest, vm: string, hazards: VmHazards): Reason[] {
  const reasons: Reason[] = [];
  if (hazards.runState !== "running")
    reasons.push({
      code: "MWARP_E_VM_UNREACHABLE",
      message: `${vm} does not run: QEMU says "${hazards.runState}"`,
      hint: "Let it go on (QMP cont, virsh resume), then try again.",
    });
  for (const name of hazards.change)
    reasons.push({
      code: "MWARP_E_UNSUPPORTED",
      message: `${vm}: ${name} is under way, which would miss what changes in its memory`,
      hint: "Wait until it has ended, then try again.",
    });
  if (request.backend === "remap")
    for (const name of hazards.remap)
      reasons.push({
        code: "MWARP_E_UNSUPPORTED",
        message: `${vm}: its memory must not be remapped: ${name}`,
        hint: "--backend copy or auto copies instead.",
      });
  return reasons;
}

/**
 * A migration that was never settled may still have frames to put back: of what is exchanged after it, it would destroy the
 * contents. One whose journal cannot be read may concern any VM.
 */
export function unsettledReasons(
  request: MigrationRequest,
  { name, pid, startTime }: VmEndpoint,
  unsettled: readonly OpenMigration[],
): Reason[] {
  if (request.method !== "warp") return [];
  const same = (vm: VmmIdentity): boolean => vm.pid === pid && vm.startTime === startTime;
  return unsettled
    .filter(({ head }) => head === null || same(head.vms.from) || same(head.vms.to))
    .map(({ id, head }) => ({
      code: "MWARP_E_BUSY",
      message:
        head === null
          ? `the journal of migration ${id} cannot be read: it may concern ${name}`
          : `migration ${id} of ${head.container} has left ${name} unsettled`,
      hint: "Settle it first: mwarp recover.",
    }));
}
