/** What a lab is to be: the caller's wishes, checked, with the defaults filled in. */
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";
import { HUGE_BYTES } from "../units.js";

const MIB = 1024 * 1024;
const MIN_MEMORY = 512 * MIB;
const MAX_VMS = 26;

/** What host memory the VMs' RAM is made of; `auto`: hugetlb when enough of the host's memory stays free besides, else 4k. */
export const labBackings = ["auto", "4k", "thp", "hugetlb"] as const;

export const VmOverrideSchema = z.object({
  /** `private`: memory no other process can map, for tests of refusals. */
  memoryBacking: z.enum(["shared", "private"]),
  /** False: QEMU runs without the preloaded library. */
  preload: z.boolean(),
  /** More arguments for QEMU. */
  extra: z._default(z.array(z.string()), []),
  /** Virtual processors, other than the lab's VMs have. */
  cpus: z.optional(z.int().check(z.minimum(1))),
  /** More words for the guest kernel's command line, where a later one counts more than an earlier one. */
  kernelArguments: z.optional(z.array(z.string())),
});
export type VmOverride = z.infer<typeof VmOverrideSchema>;
const NO_OVERRIDE: VmOverride = { memoryBacking: "shared", preload: true, extra: [] };

/** The lab's options with every default filled in; this is what lab.json holds. */
export const LabSettingsSchema = z.object({
  name: z.string(),
  vms: z.int(),
  memoryBytes: z.int(),
  cpus: z.int(),
  backing: z.enum(labBackings),
  /** Whether the host's pages behind guest RAM are all there at the start, or come as the guest touches them. */
  allocation: z._default(z.enum(["ahead", "on-demand"]), "on-demand"),
  accelerator: z.enum(["auto", "kvm", "tcg"]),
  overrides: z.record(z.string(), VmOverrideSchema),
});
export type LabSettings = z.infer<typeof LabSettingsSchema>;

export interface LabOptions {
  /** Tells labs with different run directories apart; part of the network namespace's name. */
  name?: string;
  /** Number of VMs: vm-a, vm-b, ... */
  vms?: number;
  /** Memory of each VM: bytes, or text such as "512M", "2G". */
  memory?: string | number;
  /** Virtual processors of each VM. */
  cpus?: number;
  backing?: LabSettings["backing"];
  /** `ahead`: what a VM takes of the host's memory does not grow with its use. */
  allocation?: LabSettings["allocation"];
  /** Older spelling of `backing`: `on` is hugetlb, `off` is 4k. */
  hugepages?: keyof typeof OLDER_SPELLING;
  accelerator?: LabSettings["accelerator"];
  /** By VM name; for tests. */
  overrides?: Readonly<Record<string, Partial<VmOverride>>>;
}

const OLDER_SPELLING = { auto: "auto", on: "hugetlb", off: "4k" } as const;

/** "2G", "512M", "1536MiB" or a number of bytes. @throws MWARP_E_USAGE */
export function parseMemory(text: string | number): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(?:i?[bB])?$/.exec(String(text).trim());
  if (match === null) throw new MwarpError("MWARP_E_USAGE", `not a size of memory: ${text}`);
  const power = ["", "k", "m", "g", "t"].indexOf(match[2].toLowerCase());
  return Math.round(Number(match[1]) * 1024 ** power);
}

/** vm-a, vm-b, ... */
export const vmName = (index: number): string => `vm-${String.fromCharCode(97 + index)}`;

/** @throws MWARP_E_USAGE naming the option that is wrong. */
export function resolveOptions(options: LabOptions): LabSettings {
  const name = options.name ?? "mwarp";
  const vms = options.vms ?? 2;
  const cpus = options.cpus ?? 1;
  const memoryBytes = parseMemory(options.memory ?? "2G");
  const wrong = (what: string): MwarpError => new MwarpError("MWARP_E_USAGE", what);
  if (!/^[a-z0-9][a-z0-9-]{0,19}$/.test(name))
    throw wrong(`lab name "${name}": lower case letters, digits and -`);
  if (!Number.isInteger(vms) || vms < 1 || vms > MAX_VMS) throw wrong(`number of VMs: 1 to ${MAX_VMS}`);
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > 64) throw wrong("processors of a VM: 1 to 64");
  if (memoryBytes < MIN_MEMORY) throw wrong("memory of a VM: at least 512M");
  if (memoryBytes % HUGE_BYTES !== 0) throw wrong("memory of a VM: a multiple of 2M");
  if (options.backing !== undefined && options.hugepages !== undefined)
    throw wrong("backing and hugepages are two spellings of one wish: give one of them");
  const names = Array.from({ length: vms }, (_, index) => vmName(index));
  const overrides: Record<string, VmOverride> = {};
  for (const [vm, override] of Object.entries(options.overrides ?? {})) {
    if (!names.includes(vm)) throw wrong(`options for ${vm}: this lab has ${names.join(", ")}`);
    overrides[vm] = { ...NO_OVERRIDE, ...override };
  }
  return {
    name,
    vms,
    memoryBytes,
    cpus,
    backing: options.backing ?? OLDER_SPELLING[options.hugepages ?? "auto"],
    allocation: options.allocation ?? "on-demand",
    accelerator: options.accelerator ?? "auto",
    overrides,
  };
}

export const overrideOf = (settings: LabSettings, vm: string): VmOverride =>
  settings.overrides[vm] ?? NO_OVERRIDE;

/** Network namespace of a lab. */
export const namespaceName = (settings: Pick<LabSettings, "name">): string =>
  settings.name === "mwarp" ? "mwarp" : `mwarp-${settings.name}`;
