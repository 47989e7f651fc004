/** The lab's network: a namespace of its own with a bridge, and one tap for each VM. No traffic leaves it. */
import { existsSync, readFileSync, rmdirSync } from "node:fs";
import { MwarpError } from "../errors.js";
import { endProcess, startTimeOf } from "../vm/process.js";
import { run } from "./exec.js";

const NETNS_DIRECTORY = "/run/netns";
const IPV6_SETTINGS = "/proc/sys/net/ipv6";

/** Addresses on the bridge. Containers take theirs from .100 on (src/container). */
export const bridge = {
  name: "br0",
  address: "10.77.0.1",
  prefixLength: 24,
  ipv6: { address: "fd6d:7761:7270::1", prefixLength: 64 },
} as const;

/** Address of the lab's VM number `index`, from 0. */
export const vmAddress = (index: number): string => `10.77.0.${10 + index}`;
/** A locally administered address; the last octet is the VM's number. */
export const vmMac = (index: number): string =>
  `02:4d:57:00:00:${(10 + index).toString(16).padStart(2, "0")}`;
/** vm-a -> tap-a */
export const tapName = (vm: string): string => vm.replace(/^vm-/, "tap-");

/** Command line prefix that runs a program inside the namespace. */
export const insideNamespace = (name: string): string[] => [
  "nsenter",
  `--net=${NETNS_DIRECTORY}/${name}`,
  "--",
];

/** Whether /run/netns is a mount point already; `ip netns add` makes it one. */
export const netnsDirectoryIsMounted = (): boolean =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .some((line) => line.split(" ")[4] === NETNS_DIRECTORY);

/** @throws MWARP_E_LAB, also when the namespace exists. */
export async function createNetwork(
  name: string,
  vms: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  if (existsSync(`${NETNS_DIRECTORY}/${name}`)) {
    throw new MwarpError("MWARP_E_LAB", `network namespace ${name} exists already`, {
      hint: `Another lab uses it (choose another name), or it is left over: ip netns del ${name}`,
    });
  }
  await run(["ip", "netns", "add", name], { signal });
  const quiet = (device: string): string => `echo 1 >${IPV6_SETTINGS}/conf/${device}/disable_ipv6`;
  const commands = [
    "ip link set lo up",
    // A learning bridge that forwards at once and never asks for group members.
    `ip link add ${bridge.name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
    `ip addr add ${bridge.address}/${bridge.prefixLength} dev ${bridge.name}`,
    // No router is looked for, and nobody else has its address: it works at once.
    `echo 0 >${IPV6_SETTINGS}/conf/${bridge.name}/disable_ipv6`,
    `echo 0 >${IPV6_SETTINGS}/conf/${bridge.name}/router_solicitations`,
    `ip addr add ${bridge.ipv6.address}/${bridge.ipv6.prefixLength} dev ${bridge.name} nodad`,
    `ip link set ${bridge.name} up`,
  ];
  for (const vm of vms) {
    const tap = tapName(vm);
    commands.push(
      `ip tuntap add dev ${tap} mode tap`,
      quiet(tap),
      `ip link set ${tap} master ${bridge.name} up`,
    );
  }
  // /proc/sys shows the namespace of the process that opens it.
  await run([...insideNamespace(name), "sh", "-ec", commands.join("\n")], { signal });
}

/** Pids in the namespace. */
async function pidsInside(name: string): Promise<number[]> {
  const text = await run(["ip", "netns", "pids", name]);
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map(Number);
}

/** Ends what still runs in the namespace (clients of a demo or test) and removes it. Does nothing when it is gone. */
export async function removeNetwork(name: string, unmountDirectory: boolean): Promise<void> {
  if (existsSync(`${NETNS_DIRECTORY}/${name}`)) {
    for (const pid of await pidsInside(name)) {
      const startTime = startTimeOf(pid);
      if (startTime !== null && pid !== process.pid) await endProcess({ pid, startTime });
    }
    await run(["ip", "netns", "del", name]);
  }
  if (unmountDirectory) await forgetNetnsDirectory();
}

/** Takes the mount on /run/netns away again, unless another namespace lives there. */
async function forgetNetnsDirectory(): Promise<void> {
  const left = existsSync(NETNS_DIRECTORY) ? await run(["ls", "-A", NETNS_DIRECTORY]) : "";
  if (left.trim() !== "" || !netnsDirectoryIsMounted()) return;
  await run(["umount", NETNS_DIRECTORY]);
  try {
    rmdirSync(NETNS_DIRECTORY);
  } catch (error) {
    // Somebody was faster: with a new namespace, or with removing it.
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOTEMPTY" && code !== "ENOENT" && code !== "EBUSY") throw error;
  }
}
