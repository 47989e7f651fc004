/** Network identities on the bridge: an address and a MAC that a container keeps wherever it goes. */
import { MwarpError } from "../errors.js";
import type { NetworkIdentity } from "../protocol/container.js";

/** An IPv4 subnet with at most 254 hosts, and the part of it that containers get. */
export interface Subnet {
  /** First three parts, e.g. `10.77.0`. */
  readonly prefix: string;
  readonly prefixLength: 24;
  readonly gateway: string | null;
  readonly firstHost: number;
  readonly lastHost: number;
}

export const LAB_SUBNET: Subnet = {
  prefix: "10.77.0",
  prefixLength: 24,
  gateway: null,
  firstHost: 100,
  lastHost: 254,
};

export interface WantedIdentity {
  readonly ipv4: string | null;
  readonly mac: string | null;
}

/**
 * An identity that none of `taken` has: the wanted one, or the lowest free address with a MAC made from it.
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
  return { mac, ipv4, prefixLength: subnet.prefixLength, gateway: subnet.gateway };
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
