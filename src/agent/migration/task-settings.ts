/** Settings of a task that CRIU does not bring back, each named: the task would run on without them. */
import { readIfThere } from "../files.js";

/** Sets of capabilities, as /proc/PID/status has them. */
const capabilities = (status: string, name: string): bigint =>
  BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, "m").exec(status)?.[1] ?? "0"}`);

/**
 * @param status text of /proc/PID/status
 * @param personality text of /proc/PID/personality, 8 hex digits
 */
export function judgeSettings(status: string, personality: string): string[] {
  const inherited = capabilities(status, "CapInh") & ~capabilities(status, "CapBnd");
  const found: string[] = [];
  // CRIU restores the bounding set first, and the kernel then refuses the rest (criu/pie/restorer.c, restore_creds).
  if (inherited !== 0n)
    found.push(`inheritable capabilities outside its bounding set (${inherited.toString(16)})`);
  // CRIU notes it and never sets it.
  const set = Number.parseInt(personality, 16);
  if (set !== 0 && !Number.isNaN(set))
    found.push(`personality(2) ${personality.trim().replace(/^0+/, "0x")}`);
  return found;
}

/** Empty for a task that has ended meanwhile. */
export async function settingsOf(pid: number): Promise<string[]> {
  const [status, personality] = await Promise.all([
    readIfThere(`/proc/${pid}/status`),
    readIfThere(`/proc/${pid}/personality`),
  ]);
  return judgeSettings(status ?? "", personality ?? "");
}
