/** IP addresses as bytes in network order, which is what kernels, images and packets have. */
import { isIPv4, isIPv6 } from "node:net";

/** 4 or 16 bytes; null where the text is no address (a zone as in fe80::1%eth0 is none of an address). */
export function addressBytes(text: string): number[] | null {
  if (isIPv4(text)) return text.split(".").map(Number);
  const canonical = canonicalIpv6(text);
  if (canonical === null) return null;
  const [head = "", tail] = canonical.split("::");
  const [left, right] = [groups(head), groups(tail ?? "")];
  const gap = new Array<number>(16 - left.length - right.length).fill(0);
  return [...left, ...gap, ...right];
}

/** The one way to write an IPv6 address (RFC 5952), as WHATWG's URLs have it; null where the text is none. */
export function canonicalIpv6(text: string): string | null {
  if (!isIPv6(text) || text.includes("%")) return null;
  return new URL(`http://[${text}]`).hostname.slice(1, -1);
}

const groups = (text: string): number[] =>
  text === ""
    ? []
    : text.split(":").flatMap((group) => {
        const value = Number.parseInt(group, 16);
        return [value >> 8, value & 0xff];
      });
