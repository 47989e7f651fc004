/** What mWarp needs of each VM, judged from the daemon's listing. */
import type { ContainerList, VmListing } from "../../protocol/api.js";
import { formatBytes, formatHostPages } from "../output/format.js";
import { type Check, fail, ok, warn } from "./check.js";

/** As preflight demands them. */
const MIN_CRIU = "4.0";
const MIN_RUNC = "1.1.10";
const MIN_CRUN = "1.21";

export function judgeVm(vm: VmListing): Check[] {
  const id = (what: string): string => `vm.${vm.name}.${what}`;
  if (vm.state === "gone")
    return [
      fail(id("process"), "the VMM process has ended", `mwarp vm detach ${vm.name}, or mwarp lab down`),
    ];
  const { agent, error } = vm;
  const memory = judgeMemory(vm, id("memory"));
  if (agent === null) {
    const message = error?.message ?? "the agent does not answer";
    return [fail(id("agent"), message, error?.hint ?? "Start the agent in the guest."), memory];
  }
  return [
    ok(id("agent"), `version ${agent.version}, kernel ${agent.kernel}`),
    judgeVersion(id("criu"), "CRIU", agent.criu, MIN_CRIU),
    judgeVersion(id("runc"), "runc", agent.runc, MIN_RUNC),
    judgeCrun(id("crun"), agent.crun),
    memory,
    vm.library
      ? ok(id("library"), "mWarp's library is loaded: memory can be remapped")
      : warn(id("library"), "not loaded: memory is copied", "Start QEMU with LD_PRELOAD=libmwarp-vmm.so."),
  ];
}

function judgeMemory({ memory }: VmListing, id: string): Check {
  if (memory.shared)
    return ok(id, `${formatBytes(memory.bytes ?? 0)}, shared, host pages of ${formatHostPages(memory)}`);
  const remedy = "Start the VM with memory-backend-memfd,share=on; until then only --method cold works.";
  return fail(id, memory.reason ?? "not shared", remedy);
}

function judgeVersion(id: string, what: string, found: string | null, wanted: string): Check {
  if (found === null)
    return fail(id, `${what} is not installed in the guest`, `Install ${what} ${wanted} or newer.`);
  return atLeast(found, wanted)
    ? ok(id, `${what} ${found}`)
    : fail(id, `${what} ${found} is too old`, `Install ${what} ${wanted} or newer in the guest.`);
}

/** Only a container of --runtime crun needs it. */
function judgeCrun(id: string, crun: NonNullable<VmListing["agent"]>["crun"]): Check {
  if (crun === null) return ok(id, "not installed: no container of --runtime crun can run here");
  if (!crun.criu)
    return warn(id, `crun ${crun.version} cannot use CRIU: its containers cannot move`, "Install libcriu2.");
  return judgeVersion(id, "crun", crun.version, MIN_CRUN);
}

/** Compares dotted versions; what follows the numbers ("+ds1", "-rc.1") is left out. */
export function atLeast(found: string, wanted: string): boolean {
  const numbers = (text: string): number[] => (/\d+(?:\.\d+)*/.exec(text)?.[0] ?? "0").split(".").map(Number);
  const [have, want] = [numbers(found), numbers(wanted)];
  for (let index = 0; index < want.length; index++) {
    const difference = (have[index] ?? 0) - want[index]!;
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** Containers that nobody works on but that a migration holds frozen. */
export function judgeLeftovers(list: ContainerList, running: ReadonlySet<string>): Check {
  const stuck = list.containers.filter(
    ({ container }) => container.held !== null && !running.has(container.held),
  );
  if (stuck.length === 0) return ok("leftovers", "none");
  const names = stuck.map(({ vm, container }) => `${container.spec.name} on ${vm}`);
  return fail("leftovers", `held by a migration that does not run: ${names.join(", ")}`, "mwarp recover");
}
