/** Values people type. Every parser throws commander's InvalidArgumentError: exit status 2 and the option's name. */
import { constants } from "node:os";
import { InvalidArgumentError } from "commander";
import { canonicalIpv6 } from "../protocol/ip-address.js";
import type { RestartPolicy } from "../protocol/restart.js";

const powers: Readonly<Record<string, number>> = { "": 0, k: 1, m: 2, g: 3, t: 4 };
/** Longest name of a container or VM; it becomes a host name. */
const NAME_LIMIT = 63;

/** "2G", "512M", "1.5GiB", "4096": bytes, by powers of 1024. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  const power = match === null ? undefined : powers[match[2]!.toLowerCase()];
  const bytes = match === null || power === undefined ? Number.NaN : Number(match[1]) * 1024 ** power;
  if (!Number.isSafeInteger(bytes) || bytes === 0)
    throw new InvalidArgumentError("Not a size; write 512M, 2G or a number of bytes.");
  return bytes;
}

/** A name for a container or VM. */
export function parseName(text: string): string {
  if (text.length > NAME_LIMIT)
    throw new InvalidArgumentError(`A name has at most ${NAME_LIMIT} characters; this has ${text.length}.`);
  if (!/^[a-zA-Z0-9]/.test(text)) throw new InvalidArgumentError("A name begins with a letter or a digit.");
  if (!/^[a-zA-Z0-9_.-]+$/.test(text))
    throw new InvalidArgumentError("A name has letters, digits, '.', '_' and '-' only.");
  return text;
}

/** A whole number of at least `minimum`. */
export function parseCount(minimum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < minimum)
      throw new InvalidArgumentError(`Not a whole number of at least ${minimum}.`);
    return value;
  };
}

/** "30s", "500ms", "2m", "1h" or seconds: milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  const scale = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match?.[2] ?? "s"] ?? Number.NaN;
  const ms = match === null ? Number.NaN : Math.round(Number(match[1]) * scale);
  if (!(ms > 0)) throw new InvalidArgumentError("Not a length of time; write 30s, 500ms or 2m.");
  return ms;
}

/** The same, or 0 for none. */
export const parseDurationOrNone = (text: string): number =>
  /^0(ms|s|m|h)?$/.test(text) ? 0 : parseDuration(text);

/** no, on-failure, on-failure:N, always or unless-stopped. */
export function parseRestart(text: string): RestartPolicy {
  const [name, most, ...more] = text.split(":");
  if (more.length === 0 && name === "on-failure") {
    if (most === undefined) return { name, most: null };
    if (/^[1-9]\d{0,8}$/.test(most)) return { name, most: Number(most) };
  }
  if (most === undefined && (name === "no" || name === "always" || name === "unless-stopped"))
    return { name };
  throw new InvalidArgumentError("Write no, on-failure, on-failure:N (N from 1), always or unless-stopped.");
}

/** A signal's name, with or without SIG, or its number: "SIGTERM". */
export function parseSignal(text: string): string {
  const upper = text.toUpperCase();
  const names = Object.entries(constants.signals);
  const found = names.find(
    ([name, number]) => name === upper || name === `SIG${upper}` || String(number) === text,
  );
  if (found === undefined) throw new InvalidArgumentError("Not a signal; write SIGTERM, TERM or 15.");
  return found[0];
}

/** One `K=V`, collected over repeated options. */
export function collectEnv(text: string, earlier: readonly string[] = []): readonly string[] {
  if (!/^[^=\s]+=/.test(text)) throw new InvalidArgumentError("Write KEY=VALUE.");
  return [...earlier, text];
}

export function parseIpv4(text: string): string {
  const parts = text.split(".");
  const fine = parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255);
  if (!fine) throw new InvalidArgumentError("Not an IPv4 address.");
  return text;
}

/** An IPv6 address in its canonical form, or `none`. */
export function parseIpv6(text: string): string {
  const address = text === "none" ? text : canonicalIpv6(text);
  if (address === null) throw new InvalidArgumentError("Not an IPv6 address, and not none.");
  return address;
}

/** A unicast MAC address, in lower case. */
export function parseMac(text: string): string {
  const mac = text.toLowerCase();
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac))
    throw new InvalidArgumentError("Not a MAC address; write 02:00:0a:58:00:0a.");
  if ((Number.parseInt(mac.slice(0, 2), 16) & 1) === 1)
    throw new InvalidArgumentError("A multicast MAC address cannot be a container's.");
  return mac;
}
