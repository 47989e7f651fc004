/** The lab as it is now. */
import { isAlive } from "../vm/process.js";
import type { VmEndpoint } from "../vm/types.js";
import { cachedImage } from "./image.js";
import { type LabSettings, namespaceName } from "./options.js";
import { readLabState } from "./state.js";

export interface LabVmStatus {
  readonly endpoint: VmEndpoint;
  readonly alive: boolean;
}

export interface LabStatus {
  /** `broken`: a VM ended by itself, or a lab command was interrupted; `mwarp lab down` clears it. */
  readonly state: "down" | "up" | "starting" | "stopping" | "broken";
  readonly problems: readonly string[];
  readonly createdAt: string | null;
  readonly settings: LabSettings | null;
  readonly namespace: string | null;
  readonly accelerator: { readonly kind: string; readonly reason: string } | null;
  readonly backing: { readonly kind: string; readonly reason: string } | null;
  /** Hash of the guest image in use, or of the one in the cache. */
  readonly image: string | null;
  /** Root file systems that come with the image, by name. */
  readonly rootfs: Readonly<Record<string, string>>;
  readonly vms: readonly LabVmStatus[];
}

/** Reads lab.json and looks whether its VMs live. Changes nothing and waits for nothing. */
export function labStatus(): LabStatus {
  const state = readLabState();
  const image = cachedImage();
  const nothing = {
    createdAt: null,
    settings: null,
    namespace: null,
    accelerator: null,
    backing: null,
    image: image?.hash ?? null,
    rootfs: image?.rootfs ?? {},
    vms: [],
  };
  if (state === null) return { ...nothing, state: "down", problems: [] };
  if (state === "damaged") return { ...nothing, state: "broken", problems: ["lab.json is damaged"] };
  const vms = state.vms.map((endpoint) => ({ endpoint, alive: isAlive(endpoint) }));
  const problems = vms.filter((vm) => !vm.alive).map((vm) => `${vm.endpoint.name} has ended`);
  const broken = state.phase === "up" && problems.length > 0;
  return {
    state: broken ? "broken" : state.phase,
    problems: state.phase === "stopping" ? [] : problems,
    createdAt: state.createdAt,
    settings: state.settings,
    namespace: namespaceName(state.settings),
    accelerator: state.accelerator,
    backing: state.backing,
    image: state.image,
    rootfs: image?.rootfs ?? {},
    vms,
  };
}
