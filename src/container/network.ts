/** Network identities on the bridge: addresses and a MAC that a container keeps wherever it goes. */
import { MwarpError } from "../errors.js";
import type { Ipv6Identity, NetworkIdentity } from "../protocol/container.js";
import { canonicalIpv6 } from "../protocol/ip-address.js";

/** An IPv4 subnet with at most 254 hosts, the part of it that containers get, and the IPv6 subnet beside it. */
export interface Subnet {
  /** First three parts, e.g. `10.77.0`. */
  readonly prefix: string;
  readonly prefixLength: 24;
  readonly gateway: string | null;
  readonly firstHost: number;
  readonly lastHost: number;
  readonly ipv6: {
    /** Four groups, e.g. `fd6d:7761:7270:0`. */
    readonly prefix: string;
    readonly prefixLength: 64;
  };
}

export const LAB_SUBNET: Subnet = {
  prefix: "10.77.0",
  prefixLength: 24,
  gateway: null,
  firstHost: 100,
  lastHost: 254,
  ipv6: { prefix: "fd6d:7761:7270:0", prefixLength: 64 },
};

/** Null for what is to be chosen; an IPv6 address can be `none`, too. */
export interface WantedIdentity {
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly mac: string | null;
}

/**
 * An identity that none of `taken` has: the wanted one, or the lowest free address with a MAC made from it and an IPv6 address
 * that ends as it does.
 * @throws MWARP_E_USAGE when a wanted value is malformed or not of the subnet; MWARP_E_NAME_TAKEN when it is in use;
 * MWARP_E_UNSUPPORTED when all addresses are in use.
 */
export function allocateNetwork(
  taken: readonly NetworkIdentity[],
  wanted: WantedIdentity,
  subnet: Subnet = LAB_SUBNET,
): NetworkIdentity {
  const addresses = new Set(taken.map(({ ipv4 }) => ipv4));
  const macs = new Set(taken.map(({ mac }) => mac));
  const ipv4 = wanted.ipv4 === null ? lowestFree(addresses, subnet) : checkAddress(wanted.ipv4, subnet);
  const mac = wanted.mac === null ? freeMac(ipv4, macs) : checkMac(wanted.mac);
  if (addresses.has(ipv4)) throw inUse(`address ${ipv4}`);
  if (macs.has(mac)) throw inUse(`MAC ${mac}`);
  const ipv6 = chooseIpv6(taken, wanted.ipv6, ipv4, subnet);
  return { mac, ipv4, prefixLength: subnet.prefixLength, gateway: subnet.gateway, ipv6 };
}

function lowestFree(addresses: ReadonlySet<string>, { prefix, firstHost, lastHost }: Subnet): string {
  for (let host = firstHost; host <= lastHost; host++) {
    const ipv4 = `${prefix}.${host}`;
    if (!addresses.has(ipv4)) return ipv4;
  }
  throw new MwarpError(
    "MWARP_E_UNSUPPORTED",
    `all addresses ${prefix}.${firstHost} to ${prefix}.${lastHost} are in use`,
    { hint: "Remove containers that are not needed: mwarp rm NAME." },
  );
}

function checkAddress(ipv4: string, { prefix, firstHost, lastHost }: Subnet): string {
  const host = /^(0|[1-9]\d{0,2})$/.exec(
    ipv4.startsWith(`${prefix}.`) ? ipv4.slice(prefix.length + 1) : "",
  )?.[1];
  if (host !== undefined && Number(host) >= firstHost && Number(host) <= lastHost) return ipv4;
  throw new MwarpError("MWARP_E_USAGE", `${ipv4} is not an address for containers`, {
    hint: `Choose one from ${prefix}.${firstHost} to ${prefix}.${lastHost}.`,
  });
}

function chooseIpv6(
  taken: readonly NetworkIdentity[],
  wanted: string | null,
  ipv4: string,
  { ipv6: { prefix, prefixLength } }: Subnet,
): Ipv6Identity | null {
  if (wanted === "none") return null;
  const used = new Set(taken.map(({ ipv6 }) => ipv6?.address));
  if (wanted !== null) {
    const address = checkIpv6(wanted, prefix);
    if (used.has(address)) throw inUse(`address ${address}`);
    return { address, prefixLength };
  }
  // The digits of the last part, so that people see which is whose; another only where somebody was given that by hand.
  let address = hostOf(prefix, ipv4.split(".")[3] ?? "");
  for (let spare = 0x1000; used.has(address); spare++) address = hostOf(prefix, spare.toString(16));
  return { address, prefixLength };
}

/** The host part is one group, of which the lowest 256 are for the bridge and the VMs. */
function checkIpv6(given: string, prefix: string): string {
  const address = canonicalIpv6(given);
  const host = /^[0-9a-f]{3,4}$/.exec(address?.split("::")[1] ?? "")?.[0];
  if (host !== undefined && hostOf(prefix, host) === address) return address;
  throw new MwarpError("MWARP_E_USAGE", `${given} is not an IPv6 address for containers`, {
    hint: `Choose one from ${hostOf(prefix, "100")} to ${hostOf(prefix, "ffff")}, or none.`,
  });
}

/** Never null: prefixes of subnets are well-formed. */
const hostOf = (prefix: string, host: string): string => canonicalIpv6(`${prefix}::${host}`) as string;

/** Locally administered, made from the address: the same address always has the same MAC, so no ARP entry goes stale. */
function freeMac(ipv4: string, taken: ReadonlySet<string>): string {
  const tail = ipv4.split(".").map((part) => Number(part).toString(16).padStart(2, "0"));
  for (let second = 0x6d; ; second = (second + 1) & 0xff) {
    const mac = ["02", second.toString(16).padStart(2, "0"), ...tail].join(":");
    if (!taken.has(mac)) return mac;
  }
}

function checkMac(given: string): string {
  const mac = given.toLowerCase();
  const wellFormed = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac);
  const group = wellFormed && (Number.parseInt(mac.slice(0, 2), 16) & 1) !== 0;
  if (wellFormed && !group && mac !== "00:00:00:00:00:00") return mac;
  throw new MwarpError("MWARP_E_USAGE", `${given} is not the MAC of one interface`, {
    hint: "Use six pairs of hex digits, e.g. 02:6d:0a:4d:00:64; the lowest bit of the first pair must be 0.",
  });
}

const inUse = (what: string): MwarpError =>
  new MwarpError("MWARP_E_NAME_TAKEN", `the ${what} belongs to another container`, {
    hint: "Choose another, or leave it out: mWarp then picks a free one.",
  });
