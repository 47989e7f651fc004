/** What must hold when a migration is over, however it ended: one container, whole, reachable, and no trace of another. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect } from "vitest";
import { namespaceName } from "../../src/lab/options.js";
import type { ContainerSpec } from "../../src/protocol/container.js";
import type { TestLab } from "./lab.js";
import type { Workload } from "./workload.js";

const SETTLED_MS = 15_000;
/** Of a bridge's port: BR_STATE_FORWARDING (linux/if_bridge.h). */
const FORWARDING = 3;

/**
 * One container, by the listing and by the process lists of all `vms` that live; its memory right; its address answers on the
 * lab's bridge; nothing of a migration left in any of them, and nothing of the container in the others. Gives the VM where it is.
 */
export async function expectOneOwner(workload: Workload, vms: readonly string[]): Promise<string> {
  const { lab, program } = workload;
  const vm = await workload.vm();
  const spec = await workload.spec();
  await expectTraces(lab, vm, program, spec, [`process ${program}`, `port ${FORWARDING}`]);
  for (const other of vms.filter((name) => name !== vm)) await expectTraceless(lab, other, program, spec);
  await workload.verify();
  const { ipv4 } = spec.network;
  await expect.poll(() => answers(lab, ipv4), { timeout: SETTLED_MS, message: `${ipv4} answers` }).toBe(true);
  return vm;
}

/** That the container can be moved again, whatever happened to it: in the long form each time, in the short one once for each kind. */
export class Aftermath {
  readonly #seen = new Set<string>();

  constructor(
    private readonly workload: Workload,
    private readonly vms: readonly string[],
  ) {}

  /** Gives the VM where the container was found. */
  async expectMovable(kind: string): Promise<string> {
    const { workload, vms } = this;
    const vm = await expectOneOwner(workload, vms);
    if (process.env.MWARP_TEST_LONG !== "1" && this.#seen.has(kind)) return vm;
    this.#seen.add(kind);
    await workload.migrate(vms.find((name) => name !== vm)!);
    await workload.verify();
    return vm;
  }
}

/** Nothing of a container, of CRIU or of runc in a VM. */
export const expectTraceless = (
  lab: TestLab,
  vm: string,
  program: string,
  spec: ContainerSpec,
): Promise<void> => expectTraces(lab, vm, program, spec, []);

async function expectTraces(
  lab: TestLab,
  vm: string,
  program: string,
  spec: ContainerSpec,
  expected: readonly string[],
): Promise<void> {
  const options = { timeout: SETTLED_MS, interval: 500, message: `what ${vm} has of ${spec.name}` };
  await expect.poll(() => tracesIn(lab, vm, program, spec), options).toEqual(expected);
}

/**
 * What a VM has of a container and of CRIU, whoever lists it: "process NAME" for each live process of the container's program,
 * of CRIU, of runc and of who stands between, "table NAME" for each packet filter of CRIU's in any network namespace, "port STATE" for
 * the container's end on the VM's bridge, "network NAME" for a network namespace of the container's without one.
 */
async function tracesIn(
  lab: TestLab,
  vm: string,
  program: string,
  { id, name }: Pick<ContainerSpec, "id" | "name">,
): Promise<string[]> {
  const veth = `/sys/class/net/v${id.slice(0, 12)}`;
  const script = `
ps -eo stat=,comm= | sed -n '/^Z/!s/^[^ ]* */process /p' | grep -xE 'process (criu|runc|mwarp-between|${program})' || true
for space in '' $(ls /run/netns 2>/dev/null); do
  if [ -z "$space" ]; then rules=$(nft list ruleset); else rules=$(nsenter --net=/run/netns/$space nft list ruleset); fi
  echo "$rules" | grep -i criu | sed 's/^/table /' || true
done
if [ -e ${veth} ]; then echo "port $(cat ${veth}/brport/state)"
elif [ -e /run/netns/mw-${name} ]; then echo network mw-${name}; fi`;
  const { exit, text } = await inGuest(lab, vm, "sh", "-ec", script);
  const lines = text.split("\n").filter((line) => line !== "");
  // A namespace that goes while it is looked at.
  return exit === 0 ? lines : [...lines, `status ${exit}`];
}

async function inGuest(
  lab: TestLab,
  vm: string,
  ...argv: readonly string[]
): Promise<{ readonly exit: number; readonly text: string }> {
  let text = "";
  const write = (fd: number, data: Buffer): void => {
    if (fd === 1) text += data.toString();
  };
  return { exit: await lab.daemon.execInVm(vm, argv, { stdin: null, write }), text };
}

/** Whether an address on the lab's bridge answers to ARP and to a ping, which is the kernel's that has it. */
async function answers(lab: TestLab, ipv4: string): Promise<boolean> {
  const namespace = `--net=/run/netns/${namespaceName(lab)}`;
  return promisify(execFile)("nsenter", [namespace, "busybox", "ping", "-c", "1", "-W", "2", ipv4]).then(
    () => true,
    () => false,
  );
}
