/** The command line of a lab VM, as a pure function. */
import { join } from "node:path";
import { AGENT_PORT_NAME } from "../protocol/agent.js";
import { bridge, insideNamespace, tapName } from "./network.js";
import type { LabSettings } from "./options.js";
import { insideTmpfs } from "./thp.js";

/** Host memory behind a VM's RAM, once decided. */
export type Backing = Exclude<LabSettings["backing"], "auto">;

export interface VmSpec {
  readonly name: string;
  /** Sockets, console log and pid file lie here. */
  readonly directory: string;
  readonly namespace: string;
  readonly address: string;
  readonly mac: string;
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly accelerator: "kvm" | "tcg";
  readonly backing: Backing;
  readonly allocation: "ahead" | "on-demand";
  readonly memoryBacking: "shared" | "private";
  /** The library to preload; null for none. */
  readonly preload: string | null;
  /** More arguments; for tests. */
  readonly extra: readonly string[];
  /** More words for the kernel's command line; for tests. */
  readonly kernelArguments?: readonly string[];
  readonly kernel: string;
  readonly initramfs: string;
  readonly disk: string;
}

export interface VmFiles {
  readonly pid: string;
  readonly qmp: string;
  readonly agent: string;
  readonly vmm: string;
  readonly console: string;
  readonly log: string;
}

export const vmFiles = (directory: string): VmFiles => ({
  pid: join(directory, "qemu.pid"),
  qmp: join(directory, "qmp.sock"),
  agent: join(directory, "agent.sock"),
  vmm: join(directory, "vmm.sock"),
  console: join(directory, "console.log"),
  log: join(directory, "qemu.log"),
});

/** Where the file system of a VM on transparent huge pages is mounted, in QEMU's own mount namespace. */
const memoryDirectory = (directory: string): string => join(directory, "memory");

/** Guest memory as QEMU options. */
function memory(spec: VmSpec): { machine: string; options: string[] } {
  const size = `${spec.memoryBytes / 1024 ** 2}M`;
  if (spec.memoryBacking === "private") return { machine: "q35", options: ["-m", size] };
  const kind = {
    "4k": "memory-backend-memfd",
    // Without `align` QEMU puts the memory just below a 2 MiB boundary, where no huge page can be mapped.
    thp: `memory-backend-file,mem-path=${memoryDirectory(spec.directory)},align=2M`,
    hugetlb: "memory-backend-memfd,hugetlb=on,hugetlbsize=2M",
  }[spec.backing];
  const allocation = spec.allocation === "ahead" ? ",prealloc=on" : "";
  return {
    machine: "q35,memory-backend=ram0",
    options: ["-m", size, "-object", `${kind},id=ram0,size=${size},share=on${allocation}`],
  };
}

/**
 * Several emulated processors take turns in one thread. In threads of their own one may still run kernel code that another has
 * patched, and be told to have stopped (QEMU 7.2 on a busy host: "int3" in a static branch, a panic).
 */
const tcgThreads = ({ cpus }: VmSpec): "multi" | "single" => (cpus > 1 ? "single" : "multi");

function kernelCommandLine(spec: VmSpec): string {
  return [
    "console=ttyS0",
    "quiet",
    "panic=-1",
    // An emulated processor speculates nothing: its mitigations (page-table isolation flushes the TLB at each system
    // call) would only cost time. Under KVM the guest's defaults stand.
    ...(spec.accelerator === "tcg" ? ["tsc=reliable", "no_timer_check", "mitigations=off"] : []),
    `mwarp.name=${spec.name}`,
    `mwarp.address=${spec.address}/${bridge.prefixLength}`,
    `mwarp.gateway=${bridge.address}`,
    `mwarp.mac=${spec.mac}`,
    ...(spec.kernelArguments ?? []),
  ].join(" ");
}

/** Command line of the VM, from entering the namespace on. The process that runs it becomes QEMU: its pid stays. */
export function qemuCommand(spec: VmSpec): string[] {
  const files = vmFiles(spec.directory);
  const { machine, options } = memory(spec);
  // By `env`, not in our environment: nsenter would load the library too, and take it out of the environment.
  const preload =
    spec.preload === null ? [] : ["env", `LD_PRELOAD=${spec.preload}`, `MWARP_VMM_SOCKET=${files.vmm}`];
  return [
    ...insideNamespace(spec.namespace),
    ...(spec.backing === "thp" && spec.memoryBacking === "shared"
      ? insideTmpfs(memoryDirectory(spec.directory), spec.memoryBytes)
      : []),
    ...preload,
    "qemu-system-x86_64",
    "-name",
    `${spec.name},process=mwarp-${spec.name}`,
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
    "-pidfile",
    files.pid,
    "-machine",
    machine,
    "-accel",
    spec.accelerator === "kvm" ? "kvm" : `tcg,thread=${tcgThreads(spec)},tb-size=256`,
    "-cpu",
    // TCG runs string instructions one element at a time: without ERMS the kernel clears pages by words, not bytes,
    // which makes populating a destination three times faster.
    spec.accelerator === "kvm" ? "host" : "max,-erms,-fsrm",
    "-smp",
    String(spec.cpus),
    ...options,
    "-kernel",
    spec.kernel,
    "-initrd",
    spec.initramfs,
    "-append",
    kernelCommandLine(spec),
    "-blockdev",
    `driver=file,node-name=image,filename=${spec.disk},read-only=on`,
    "-blockdev",
    "driver=raw,node-name=root,file=image,read-only=on",
    "-device",
    "virtio-blk-pci,drive=root",
    "-netdev",
    `tap,id=net0,ifname=${tapName(spec.name)},script=no,downscript=no`,
    "-device",
    `virtio-net-pci,netdev=net0,mac=${spec.mac},romfile=`,
    "-device",
    "virtio-serial-pci",
    "-chardev",
    `socket,id=agent,path=${files.agent},server=on,wait=off`,
    "-device",
    `virtserialport,chardev=agent,name=${AGENT_PORT_NAME}`,
    "-chardev",
    `file,id=console,path=${files.console}`,
    "-serial",
    "chardev:console",
    "-qmp",
    `unix:${files.qmp},server=on,wait=off`,
    ...spec.extra,
  ];
}
