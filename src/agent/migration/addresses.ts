/** Which addresses go with a container. All are bytes in network order, 4 or 16. */
import type { NetworkIdentity } from "../../protocol/container.js";
import { addressBytes } from "../../protocol/ip-address.js";

const LOOPBACK = addressBytes("::1")?.join();

/** One of its own, by which it calls itself: what came from there came from within. */
export function isOwn(address: readonly number[], { ipv4, ipv6 }: NetworkIdentity): boolean {
  if (address.length === 4 ? address[0] === 127 : address.join() === LOOPBACK) return true;
  return [ipv4, ipv6?.address].some((text) => addressBytes(text ?? "")?.join() === address.join());
}

/** Of IPv6; the containers have none of IPv4. */
export const isLinkLocal = ([first = 0, second = 0, ...rest]: readonly number[]): boolean =>
  rest.length === 14 && first === 0xfe && (second & 0xc0) === 0x80;

/** Groups, and all of IPv4 that is nobody's: broadcast. */
export const isGroup = ({ length, 0: first = 0 }: readonly number[]): boolean =>
  length === 4 ? first >= 224 : first === 0xff;

/** As it is usually written. */
export function addressText(address: readonly number[]): string {
  if (address.length === 4) return address.join(".");
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((address[2 * i]! << 8) | address[2 * i + 1]!).toString(16),
  );
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}
