/** Brings a lab up: guest image, network, huge pages, VMs. Undoes itself when it fails or is cancelled. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { MwarpError, toMwarpError } from "../errors.js";
import { distFile, runDir, vmDir } from "../paths.js";
import { isAlive } from "../vm/process.js";
import type { VmEndpoint } from "../vm/types.js";
import { labLock, takeDown } from "./down.js";
import { type HugepagePlan, planHugepages, readHostMemory, reservePages } from "./hugepages.js";
import { ensureImage, type GuestImage } from "./image.js";
import { buildInitramfs } from "./initramfs.js";
import { probeKvm } from "./kvm.js";
import { createNetwork, netnsDirectoryIsMounted, vmAddress, vmMac } from "./network.js";
import {
  type LabOptions,
  type LabSettings,
  namespaceName,
  overrideOf,
  resolveOptions,
  vmName,
} from "./options.js";
import { ensurePackages } from "./packages.js";
import type { LabCallOptions } from "./progress.js";
import type { Backing, VmSpec } from "./qemu.js";
import { type LabState, type Resource, readLabState, writeLabState } from "./state.js";
import { type LabStatus, labStatus } from "./status.js";
import { checkThp, requireThp } from "./thp.js";
import { startVm, waitUntilReady } from "./vms.js";

/** A guest under TCG on a busy two-core host needs seconds; this is for when it hangs. */
const BOOT_TIMEOUT_MS = 180_000;

export interface LabUpOptions extends LabCallOptions {
  /** Called for each VM once its guest is up; resolves when its agent answers. */
  waitForAgent?: (endpoint: VmEndpoint, signal: AbortSignal) => Promise<void>;
}

export interface LabUpResult {
  /** False when the lab was up with the same options already. */
  readonly started: boolean;
  readonly status: LabStatus;
}

/**
 * Brings the lab up, or finds it up with the same options.
 * @throws MWARP_E_USAGE for wrong options; MWARP_E_BUSY when a lab with other options is up, or another lab command is at work;
 * MWARP_E_LAB, MWARP_E_TIMEOUT, MWARP_E_CANCELLED. Whatever was made is then given back.
 */
export async function labUp(options: LabOptions, call: LabUpOptions = {}): Promise<LabUpResult> {
  const settings = resolveOptions(options);
  if (process.getuid?.() !== 0) throw new MwarpError("MWARP_E_NOT_ROOT", "the lab needs root");
  return labLock(0, call.signal, async () => {
    if (await isUpAlready(settings, call)) return { started: false, status: labStatus() };
    try {
      await bringUp(settings, call);
    } catch (error) {
      await undo(error, call);
    }
    return { started: true, status: labStatus() };
  });
}

/** Undoes a failed start and throws why it failed. */
async function undo(error: unknown, call: LabUpOptions): Promise<never> {
  const reason = toMwarpError(error);
  try {
    await takeDown(call.onProgress === undefined ? {} : { onProgress: call.onProgress });
  } catch (second) {
    throw new MwarpError(reason.code, reason.message, {
      hint: "Not all could be undone: run mwarp lab down.",
      details: [...reason.details, toMwarpError(second).message],
      cause: error,
    });
  }
  throw reason;
}

async function isUpAlready(settings: LabSettings, call: LabUpOptions): Promise<boolean> {
  const state = readLabState();
  if (state === null) return false;
  if (state === "damaged" || state.phase !== "up") {
    // We hold the lock, so whoever wrote this is gone.
    call.onProgress?.({ step: "down", message: "clearing what an interrupted lab command left" });
    await takeDown(call);
    return false;
  }
  const dead = state.vms.filter((vm) => !isAlive(vm)).map((vm) => vm.name);
  const hint = "Take it down first: mwarp lab down.";
  if (dead.length > 0)
    throw new MwarpError("MWARP_E_LAB", `a lab is up, but ${dead.join(", ")} ended by itself`, { hint });
  if (!isDeepStrictEqual(state.settings, settings))
    throw new MwarpError("MWARP_E_BUSY", "a lab with other options is up", { hint });
  return true;
}

/** lab.json while the lab grows: each resource is written down before it is made. */
class Construction {
  #state: LabState;

  constructor(
    settings: LabSettings,
    image: GuestImage,
    accelerator: LabState["accelerator"],
    backing: LabState["backing"],
  ) {
    this.#state = {
      version: 1,
      phase: "starting",
      createdAt: new Date().toISOString(),
      settings,
      image: image.hash,
      accelerator,
      backing,
      resources: [],
      vms: [],
    };
    writeLabState(this.#state);
  }

  intend(...resources: Resource[]): void {
    this.#write({ resources: [...this.#state.resources, ...resources] });
  }

  started(endpoint: VmEndpoint): void {
    this.#write({ vms: [...this.#state.vms, endpoint] });
  }

  /** The reservation was made. */
  hugepagesReserved(): void {
    const done = (resource: Resource): Resource =>
      resource.kind === "hugepages" ? { ...resource, reserved: true } : resource;
    this.#write({ resources: this.#state.resources.map(done) });
  }

  /** The reservation failed, and left nothing to give back. */
  noHugepages(reason: string): void {
    const resources = this.#state.resources.filter((resource) => resource.kind !== "hugepages");
    this.#write({ resources, backing: { kind: "4k", reason } });
  }

  finish(): void {
    this.#write({ phase: "up" });
  }

  #write(change: Partial<LabState>): void {
    this.#state = { ...this.#state, ...change };
    writeLabState(this.#state);
  }
}

async function bringUp(settings: LabSettings, call: LabUpOptions): Promise<void> {
  const { signal, onProgress } = call;
  await ensurePackages(call);
  const image = await ensureImage(call);
  const accelerator = await chooseAccelerator(settings, image, call);
  const names = Array.from({ length: settings.vms }, (_, index) => vmName(index));
  const shared = names.filter((name) => overrideOf(settings, name).memoryBacking === "shared");
  if (settings.backing === "thp") requireThp();
  const huge = planHugepages(settings, shared.length * settings.memoryBytes, readHostMemory());
  mkdirSync(runDir(), { recursive: true });
  const planned = backingOf(settings, huge.use);
  const construction = new Construction(settings, image, accelerator, {
    kind: planned,
    reason: huge.reason,
  });

  const initramfs = join(runDir(), "initramfs");
  construction.intend({ kind: "directory", path: initramfs });
  buildInitramfs(image, initramfs);

  const namespace = namespaceName(settings);
  onProgress?.({ step: "network", message: `network namespace ${namespace}` });
  construction.intend({ kind: "netns", name: namespace, mounted: !netnsDirectoryIsMounted() });
  await createNetwork(namespace, names, signal);

  const reserved = huge.use && (await takeHugepages(settings, huge, construction, call));
  const backing = backingOf(settings, reserved);
  const specs = names.map((name, index): VmSpec => {
    const override = overrideOf(settings, name);
    return {
      name,
      directory: vmDir(name),
      namespace,
      address: vmAddress(index),
      mac: vmMac(index),
      memoryBytes: settings.memoryBytes,
      cpus: override.cpus ?? settings.cpus,
      accelerator: accelerator.kind,
      backing,
      allocation: settings.allocation,
      memoryBacking: override.memoryBacking,
      preload: override.preload ? distFile("native", "libmwarp-vmm.so") : null,
      extra: override.extra,
      ...(override.kernelArguments === undefined ? {} : { kernelArguments: override.kernelArguments }),
      kernel: image.kernel,
      initramfs,
      disk: image.disk,
    };
  });
  await startAll(specs, construction, call);
  construction.finish();
}

const backingOf = ({ backing }: LabSettings, reserved: boolean): Backing =>
  reserved ? "hugetlb" : backing === "thp" ? "thp" : "4k";

async function chooseAccelerator(
  settings: LabSettings,
  image: GuestImage,
  call: LabUpOptions,
): Promise<{ kind: "kvm" | "tcg"; reason: string }> {
  if (settings.accelerator === "tcg") return { kind: "tcg", reason: "asked for" };
  const verdict = await probeKvm(image, call);
  if (verdict.works) return { kind: "kvm", reason: verdict.reason };
  if (settings.accelerator === "kvm")
    throw new MwarpError("MWARP_E_LAB", `KVM does not work here: ${verdict.reason}`, {
      hint: "The lab also runs without: --accel tcg.",
    });
  return { kind: "tcg", reason: verdict.reason };
}

async function takeHugepages(
  settings: LabSettings,
  plan: HugepagePlan,
  construction: Construction,
  call: LabUpOptions,
): Promise<boolean> {
  if (plan.pages === 0) return true;
  call.onProgress?.({ step: "memory", message: `reserving ${plan.pages} pages of 2 MiB` });
  construction.intend({ kind: "hugepages", pages: plan.pages, before: plan.before, reserved: false });
  try {
    await reservePages(plan.pages);
    construction.hugepagesReserved();
    return true;
  } catch (error) {
    if (settings.backing === "hugetlb") throw error;
    construction.noHugepages(toMwarpError(error).message);
    return false;
  }
}

async function startAll(
  specs: readonly VmSpec[],
  construction: Construction,
  call: LabUpOptions,
): Promise<void> {
  // The first failure ends the waiting for all.
  const failed = new AbortController();
  const signal = call.signal === undefined ? failed.signal : AbortSignal.any([call.signal, failed.signal]);
  const begun = performance.now();
  construction.intend(...specs.map(({ name, directory }): Resource => ({ kind: "vm", name, directory })));
  const boots = specs.map(async (spec) => {
    const endpoint = startVm(spec);
    construction.started(endpoint);
    await waitUntilReady(endpoint, spec.directory, BOOT_TIMEOUT_MS, signal);
    if (spec.backing === "thp" && spec.memoryBacking === "shared") checkThp(spec.name, endpoint.pid);
    await call.waitForAgent?.(endpoint, signal);
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    call.onProgress?.({ step: "vm", message: `${spec.name} is up at ${spec.address} (${seconds} s)` });
  });
  try {
    await Promise.all(boots);
  } catch (error) {
    failed.abort();
    await Promise.allSettled(boots);
    throw error;
  }
}
