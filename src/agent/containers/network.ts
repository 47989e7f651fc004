/** A container's network: a namespace, a veth pair on the guest's bridge, its own MAC and addresses. */
import { networkInterfaces } from "node:os";
import { MwarpError } from "../../errors.js";
import type { ContainerSpec } from "../../protocol/container.js";
import { exists } from "../files.js";
import { log } from "../log.js";
import { containerPaths } from "../paths.js";
import { mustRun, run } from "../process.js";

export const BRIDGE = "br0";
export const CONTAINER_DEVICE = "eth0";

/** Absent where the kernel was built, or started, without IPv6. */
const IPV6_SETTINGS = "/proc/sys/net/ipv6";
export const speaksIpv6 = (): Promise<boolean> => exists(IPV6_SETTINGS);

/** Host side of the veth pair; the same on every VM, and within the 15 bytes of an interface name. */
export const vethName = (spec: ContainerSpec): string => `v${spec.id.slice(0, 12)}`;

/**
 * Makes all of it but the way out: the veth joins the bridge with `Helper.openFence`. Until then no bridge learns the
 * container's MAC from here, whatever the kernel sends when the interfaces come up.
 */
export async function createNetwork(spec: ContainerSpec): Promise<void> {
  const { netns, netnsName } = containerPaths(spec.name);
  const { mac, ipv4, prefixLength, gateway, ipv6 } = spec.network;
  if (ipv6 !== null && !(await speaksIpv6()))
    throw new MwarpError("MWARP_E_UNSUPPORTED", "this VM's kernel has no IPv6", {
      hint: "Leave the address out: --ip6 none.",
    });
  const veth = vethName(spec);
  const outside = [
    `netns add ${netnsName}`,
    `link add ${veth} type veth peer name ${CONTAINER_DEVICE} netns ${netnsName} address ${mac}`,
    `link set ${veth} up`,
  ];
  await mustRun(["ip", "-batch", "-"], { input: `${outside.join("\n")}\n` });
  const inside = [
    "link set lo up",
    `addr add ${ipv4}/${prefixLength} dev ${CONTAINER_DEVICE}`,
    ...(ipv6 === null ? [] : [`addr add ${ipv6.address}/${ipv6.prefixLength} dev ${CONTAINER_DEVICE} nodad`]),
    `link set ${CONTAINER_DEVICE} up`,
    ...(gateway === null ? [] : [`route add default via ${gateway} dev ${CONTAINER_DEVICE}`]),
  ];
  // No duplicate address detection: a container that has just moved would find its own traces.
  const sysctls = ["all", "default", CONTAINER_DEVICE].map(
    (device) => `echo 0 > ${IPV6_SETTINGS}/conf/${device}/accept_dad`,
  );
  const script = `if [ -d ${IPV6_SETTINGS} ]; then ${sysctls.join("; ")}; fi; exec ip -batch -`;
  await mustRun(["nsenter", `--net=${netns}`, "sh", "-c", script], { input: `${inside.join("\n")}\n` });
}

/** Removes what createNetwork made, or the part of it that is there. */
export async function removeNetwork(spec: ContainerSpec): Promise<void> {
  const { netns, netnsName } = containerPaths(spec.name);
  const veth = vethName(spec);
  if (await exists(netns)) await endConnections(netns);
  const commands = [];
  // The pair goes with the namespace too, but later and unseen.
  if (await exists(`/sys/class/net/${veth}`)) commands.push(`link del ${veth}`);
  if (await exists(netns)) commands.push(`netns del ${netnsName}`);
  if (commands.length > 0) await run(["ip", "-force", "-batch", "-"], { input: `${commands.join("\n")}\n` });
}

/**
 * Ends what the kernel would go on to send for processes that have been killed. Such a socket of IPv6 keeps a reference to the interface
 * for as long as it lives, minutes, and who removes the interface waits for it. What is said to its peer about it (RST) gets out only
 * where a container is removed for good: in a migration the way out is shut by now, or nobody has ever opened it.
 */
async function endConnections(netns: string): Promise<void> {
  const kill = ["nsenter", `--net=${netns}`, "ss", "--kill", "--tcp", "state", "all"];
  // A kernel without CONFIG_INET_DIAG_DESTROY leaves them to their time.
  await run(kill).catch((error: unknown) => log("warn", `connections are not ended: ${String(error)}`));
}

/** This VM's own IPv4 address on the bridge. */
export function bridgeAddress(): string {
  const address = networkInterfaces()[BRIDGE]?.find((entry) => entry.family === "IPv4")?.address;
  if (!address) throw new MwarpError("MWARP_E_RUNTIME", `this VM has no IPv4 address on ${BRIDGE}`);
  return address;
}
