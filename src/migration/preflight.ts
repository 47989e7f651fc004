/**
 * Preflight: every reason not to start, at once, before anything of the container is touched.
 *
 * Order: what needs no guest (names), then what both guests say of themselves, then what the container uses. Reasons of one
 * stage are collected; a later stage runs only when the earlier ones found nothing that makes its questions meaningless.
 */
import { type ErrorCode, errorTable, MwarpError, toMwarpError } from "../errors.js";
import type { AgentResult, GuestInfo } from "../protocol/agent.js";
import type { ContainerState } from "../protocol/container.js";
import type { MigrationRequest } from "../protocol/migration.js";
import type { MemoryLayout } from "../vm/types.js";
import type { AgentCaller, MigrationVm, MigrationWorld } from "./ports.js";
import { versionAtLeast } from "./versions.js";

/** CRIU below 4.0 fails in runc's action scripts (3.17 hits a BUG(); tried). */
const MIN_CRIU = "4.0";
/** runc before 1.1.10 passes action scripts and parent images differently. */
const MIN_RUNC = "1.1.10";
/** Room the destination guest needs beside the container's own memory: skeleton images, page tables, CRIU itself. */
const DESTINATION_HEADROOM_BYTES = 96 * 1024 * 1024;

export interface Reason {
  readonly code: ErrorCode;
  readonly message: string;
}

/** Everything a migration knows once preflight has passed. */
export interface Checked {
  readonly container: ContainerState;
  readonly source: MigrationVm;
  readonly destination: MigrationVm;
  readonly sourceAgent: AgentCaller;
  readonly destinationAgent: AgentCaller;
  readonly sourceInfo: GuestInfo;
  readonly destinationInfo: GuestInfo;
  readonly usage: AgentResult<"source.prepare">;
  /** Archive of the container's root file system on the host. */
  readonly rootfsFile: string;
  /** Where both guests' RAM lies; null for methods that do not touch it. */
  readonly layouts: { readonly source: MemoryLayout; readonly destination: MemoryLayout } | null;
}

/** Thrown by preflight: `reasons` holds all of them, the first one's code decides the exit status. */
export class Refusal extends MwarpError {
  readonly reasons: readonly Reason[];
  /** VM of the container; null when it was not found. */
  readonly from: string | null;

  constructor(reasons: readonly [Reason, ...Reason[]], from: string | null) {
    super(reasons[0].code, reasons.map((reason) => reason.message).join("; "), {
      hint: [...new Set(reasons.map((reason) => errorTable[reason.code].remedy))].join(" "),
      phase: "preflight",
    });
    this.reasons = reasons;
    this.from = from;
  }
}

function refuseIfAny(reasons: readonly Reason[], from: string | null): void {
  const [first, ...rest] = reasons;
  if (first !== undefined) throw new Refusal([first, ...rest], from);
}

/**
 * Finds the container and checks all that can be asked before the freeze.
 *
 * @throws Refusal with every reason found
 */
export async function preflight(
  world: MigrationWorld,
  request: MigrationRequest,
  migrationId: string,
  signal: AbortSignal,
): Promise<Checked> {
  const { vmName, container, destination } = await findNames(world, request, signal);
  const source = world.vm(vmName)!;
  const [sourceAgent, destinationAgent] = await Promise.all([
    source.agent(signal),
    destination.agent(signal),
  ]);
  const [sourceInfo, destinationInfo] = await Promise.all([
    askInfo(vmName, sourceAgent, signal),
    askInfo(destination.endpoint.name, destinationAgent, signal),
  ]);
  const reasons = [
    ...guestReasons(vmName, sourceInfo, "dump"),
    ...guestReasons(destination.endpoint.name, destinationInfo, "restore"),
    ...cpuReasons(sourceInfo, destinationInfo),
  ];
  const layouts: MemoryLayout[] = [];
  if (request.method === "warp") {
    for (const vm of [source, destination]) {
      const backing = await vm.memoryBacking(signal);
      if (backing.kind === "shared-memfd") layouts.push(backing.layout);
      if (backing.kind === "unsuitable") {
        reasons.push({
          code: "MWARP_E_MEMORY_NOT_SHARED",
          message: `memory of ${vm.endpoint.name} cannot be exchanged: ${backing.reason}`,
        });
      } else if (request.backend === "remap" && vm.endpoint.vmmSocket === null) {
        reasons.push({
          code: "MWARP_E_UNSUPPORTED",
          message: `${vm.endpoint.name} runs without the preloaded library, so --backend remap cannot be had; --backend copy can`,
        });
      }
    }
  }
  refuseIfAny(reasons, vmName);

  const usage = await sourceAgent.call(
    "source.prepare",
    { migration: migrationId, name: container.spec.name },
    { signal, timeoutMs: 30_000 },
  );
  const late: Reason[] = [
    ...usage.unsupported.map(
      (what): Reason => ({ code: "MWARP_E_UNSUPPORTED", message: `cannot be moved: ${what}` }),
    ),
    ...memoryReasons(request, usage, destinationInfo),
  ];
  if (late.length > 0)
    await sourceAgent.call("source.abort", { migration: migrationId }, { timeoutMs: 20_000 });
  refuseIfAny(late, vmName);
  const [sourceLayout, destinationLayout] = layouts;
  return {
    layouts:
      sourceLayout === undefined || destinationLayout === undefined
        ? null
        : { source: sourceLayout, destination: destinationLayout },
    container,
    source,
    destination,
    sourceAgent,
    destinationAgent,
    sourceInfo,
    destinationInfo,
    usage,
    rootfsFile: world.rootfsFile(usage.spec.rootfs),
  };
}

async function findNames(
  world: MigrationWorld,
  request: MigrationRequest,
  signal: AbortSignal,
): Promise<{ vmName: string; container: ContainerState; destination: MigrationVm }> {
  const destination = world.vm(request.to);
  const reasons: Reason[] = [];
  if (destination === undefined) {
    reasons.push({
      code: "MWARP_E_VM_UNKNOWN",
      message: `there is no VM ${request.to}; known: ${world.vmNames().join(", ") || "none"}`,
    });
  }
  const survey = await world.containers(signal);
  const named = survey.containers.filter(({ container }) => container.spec.name === request.container);
  const elsewhere = named.filter(({ vm }) => vm !== request.to);
  const found = elsewhere[0];
  if (named.length === 0) {
    const silent = survey.unreachable.map(({ vm, reason }) => `${vm} does not answer (${reason})`);
    reasons.unshift({
      code: silent.length === 0 ? "MWARP_E_CONTAINER_UNKNOWN" : "MWARP_E_AGENT_UNREACHABLE",
      message: [`there is no container ${request.container} on any VM that answers`, ...silent].join("; "),
    });
  } else if (found === undefined) {
    reasons.push({ code: "MWARP_E_SAME_VM", message: `${request.container} already runs on ${request.to}` });
  } else {
    if (named.length > elsewhere.length) {
      reasons.push({
        code: "MWARP_E_NAME_TAKEN",
        message: `${request.to} already has a container named ${request.container}`,
      });
    }
    if (elsewhere.length > 1) {
      const vms = elsewhere.map(({ vm }) => vm).join(" and ");
      reasons.push({
        code: "MWARP_E_NAME_TAKEN",
        message: `${vms} each have a container named ${request.container}`,
      });
    }
    if (found.container.held !== null) {
      reasons.push({
        code: "MWARP_E_BUSY",
        message: `${request.container} is held by migration ${found.container.held}`,
      });
    } else if (found.container.status !== "running") {
      reasons.push({
        code: "MWARP_E_NOT_RUNNING",
        message: `${request.container} is ${found.container.status}`,
      });
    }
  }
  refuseIfAny(reasons, found?.vm ?? null);
  return { vmName: found!.vm, container: found!.container, destination: destination! };
}

/** What a guest says of itself. An agent that does not answer is named. */
async function askInfo(vm: string, agent: AgentCaller, signal: AbortSignal): Promise<GuestInfo> {
  try {
    return await agent.call("info", {}, { signal, timeoutMs: 10_000 });
  } catch (cause) {
    const { code, message, hint, details } = toMwarpError(cause);
    throw new MwarpError(code, `${vm}: ${message}`, { hint, details, cause });
  }
}

function guestReasons(vm: string, info: GuestInfo, act: "dump" | "restore"): Reason[] {
  const reasons: Reason[] = [];
  if (info.criuVersion === null || !versionAtLeast(info.criuVersion, MIN_CRIU)) {
    reasons.push({
      code: "MWARP_E_CRIU_TOO_OLD",
      message: `CRIU in ${vm} is ${info.criuVersion ?? "missing"}; to ${act}, ${MIN_CRIU} or newer is needed`,
    });
  }
  if (info.runcVersion === null || !versionAtLeast(info.runcVersion, MIN_RUNC)) {
    reasons.push({
      code: "MWARP_E_RUNC_TOO_OLD",
      message: `runc in ${vm} is ${info.runcVersion ?? "missing"}; ${MIN_RUNC} or newer is needed`,
    });
  }
  return reasons;
}

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

/**
 * A task that has seen a CPU feature may use it at any time (ifuncs are bound once), so the destination must have all of them.
 * CRIU refuses a smaller XSAVE area, too, but only when the container stands still (criu/arch/x86/cpu.c).
 */
function cpuReasons(source: GuestInfo, destination: GuestInfo): Reason[] {
  const reasons: Reason[] = [];
  const unsupported = (message: string): void => void reasons.push({ code: "MWARP_E_UNSUPPORTED", message });
  const offered = new Set(destination.cpuFlags);
  const missing = source.cpuFlags.filter((flag) => !offered.has(flag) && !KERNEL_NOTES.has(flag));
  if (missing.length > 0) unsupported(`the destination's processor lacks ${missing.join(" ")}`);
  const [had, has] = [source.signalFrameBytes, destination.signalFrameBytes];
  if (had > has && has > 0)
    unsupported(
      `the destination's processor has a smaller XSAVE area: a signal frame of ${has} bytes, not ${had}`,
    );
  return reasons;
}

/**
 * Memory the destination must have: the container's own, what the source has in swap included (it comes as bytes), and for
 * `cold` a second time, as its pages lie on tmpfs first.
 */
function neededBytes(request: MigrationRequest, usage: AgentResult<"source.prepare">): number {
  const memory = Math.max(usage.anonymousBytes, usage.memoryBytes) + usage.swapBytes;
  const images = request.method === "cold" ? usage.anonymousBytes + usage.swapBytes : 0;
  return memory + images + usage.writableLayerBytes + DESTINATION_HEADROOM_BYTES;
}

function memoryReasons(
  request: MigrationRequest,
  usage: AgentResult<"source.prepare">,
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
