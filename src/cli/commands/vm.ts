/** `mwarp vm`: the VMs mWarp knows. */
import { MwarpError } from "../../errors.js";
import type { VmListing } from "../../protocol/api.js";
import { formatBytes, formatHostPages } from "../output/format.js";
import { parseCount, parseName } from "../parse.js";
import { type Register, withJson } from "../session.js";
import { passOn } from "./exec.js";

interface AttachOptions {
  readonly pid: number;
  readonly qmp: string;
  readonly agent: string;
  readonly vmm?: string;
  readonly address?: string;
}

export const registerVm: Register = (program, session) => {
  const vm = program.command("vm").description("list, attach and detach VMs");

  withJson(vm.command("ls").alias("list").description("list the VMs and what they can do"))
    .option("-q, --quiet", "names only")
    .action(async (options: { readonly quiet?: true }) => {
      const daemon = await session.daemon();
      const { vms } = await daemon.vms();
      if (session.json) return session.document({ vms });
      if (options.quiet) {
        for (const { name } of vms) session.print(name);
        return;
      }
      await session.table(
        ["NAME", "STATE", "ADDRESS", "MEMORY", "FREE", "HOST PAGES", "WARP", "CONTAINERS", "CRIU", "RUNC"],
        vms.map(vmRow),
      );
      for (const { name, error } of vms) if (error !== null) session.say(`${name}: ${error.message}`);
    });

  withJson(vm.command("attach").description("add a running QEMU VM"))
    .argument("<name>", "name to give it", parseName)
    .requiredOption("--pid <pid>", "QEMU's process id", parseCount(2))
    .requiredOption("--qmp <socket>", "its QMP socket")
    .requiredOption("--agent <socket>", "socket of the virtio-serial port org.mwarp.agent.0")
    .option("--vmm <socket>", "socket of mWarp's library in QEMU; without it only the back end copy")
    .option("--address <ipv4>", "the VM's address on the bridge (method cold needs it)")
    .action(async (name: string, options: AttachOptions) => {
      const { startTimeOf } = await import("../proc.js");
      const startTime = startTimeOf(options.pid);
      if (startTime === null)
        throw new MwarpError("MWARP_E_VM_UNREACHABLE", `there is no process ${options.pid}`);
      const daemon = await session.daemon();
      const listing = await daemon.attachVm({
        name,
        pid: options.pid,
        startTime,
        qmpSocket: options.qmp,
        agentSocket: options.agent,
        vmmSocket: options.vmm ?? null,
        address: options.address ?? null,
      });
      if (session.json) return session.document(listing);
      session.say(`${name} is attached: ${listing.error?.message ?? listing.state}`);
    });

  withJson(vm.command("detach").description("forget an attached VM; it runs on"))
    .argument("<name>", "VM")
    .action(async (name: string) => {
      const daemon = await session.daemon();
      await daemon.detachVm(name);
      if (session.json) session.document({ detached: name });
      else session.print(name);
    });

  vm.command("exec")
    .description("run a command as root in a VM; its exit status is passed on")
    .usage("VM [options] -- CMD...")
    .argument("<vm>", "VM")
    .argument("<command...>", "command and its arguments, after --")
    .option("-i, --interactive", "pass stdin on even when it is a terminal")
    .action(async (name: string, command: string[], options: { readonly interactive?: true }) => {
      const daemon = await session.daemon();
      await passOn(session, options.interactive === true, (io) => daemon.execInVm(name, command, io));
    });
};

function vmRow(vm: VmListing): string[] {
  const { agent, memory } = vm;
  return [
    vm.name,
    vm.state,
    vm.address ?? "-",
    agent === null ? "-" : formatBytes(agent.memory_total_bytes),
    agent === null ? "-" : formatBytes(agent.memory_available_bytes),
    formatHostPages(memory),
    warpWord(vm),
    vm.containers === null ? "-" : String(vm.containers),
    agent?.criu ?? "-",
    agent?.runc ?? "-",
  ];
}

/** What kind of exchange the VM can take part in. */
function warpWord({ memory, library }: VmListing): string {
  if (!memory.shared) return "no";
  return library ? "remap, copy" : "copy";
}
