/**
 * Fault points for tests of recovery, after CRIU's criu/include/fault-injection.h. A daemon started with MWARP_FAULTS=FILE
 * looks into that file at each point, and does what it asks for in words KIND:POINT:
 *
 * - `kill`: it kills itself, as SIGKILL by a stranger would.
 * - `fail`: the step fails there.
 * - `hold`: it makes the file `FILE.held` and waits until that is gone, so that a test can kill somebody else meanwhile.
 * - `unsafe:stale-table`: the page tables are walked while both VMs run, seconds before the exchange, which breaks I3. It
 *   exists to show that the adversary of the tests finds such a mistake.
 *
 * A point is a state (states.ts), as soon as the journal says it, or an instant inside the stun. Held there, the whole daemon
 * stands still, as nothing inside the stun waits for a test.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { MwarpError } from "../errors.js";
import type { State } from "./states.js";

/** `exchanged`: frames have changed owner, nothing is journaled. `stunned`: committed, both VMs still paused. */
export type StunPoint = "exchanged" | "stunned";
/** The same two of the stun for image files, which commits nothing: the migration can be taken back after it. */
export type ImagePoint = "imagesExchanged" | "imagesSettled";
export type FaultPoint = State | StunPoint | ImagePoint;
type FaultKind = "kill" | "fail" | "hold" | "unsafe";

const HOLD_LIMIT_MS = 120_000;
const LOOK_EVERY_MS = 20;

const faultsFile = process.env.MWARP_FAULTS ?? "";

const STALE_MS = 3_000;

const asked = (kind: FaultKind, point: FaultPoint | "stale-table"): boolean =>
  faultsFile !== "" &&
  existsSync(faultsFile) &&
  readFileSync(faultsFile, "utf8").split(/\s+/).includes(`${kind}:${point}`);

const inStun: ReadonlySet<FaultPoint> = new Set<StunPoint | ImagePoint>([
  "exchanged",
  "stunned",
  "imagesExchanged",
  "imagesSettled",
]);

export function killPoint(point: FaultPoint): void {
  if (asked("kill", point)) process.kill(process.pid, "SIGKILL");
  if (!inStun.has(point) || !asked("hold", point)) return;
  const isHeld = hold(point);
  const nobody = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  while (isHeld()) Atomics.wait(nobody, 0, 0, LOOK_EVERY_MS);
}

/** For where waiting and failing are possible. */
export async function faultPoint(point: State): Promise<void> {
  if (asked("fail", point)) throw new MwarpError("MWARP_E_INTERNAL", `failed at ${point}, as a test asked`);
  if (!asked("hold", point)) return;
  const isHeld = hold(point);
  while (isHeld()) await sleep(LOOK_EVERY_MS);
}

/** Says that the point is reached. Gives what tells whether to wait on. */
function hold(point: FaultPoint): () => boolean {
  const held = `${faultsFile}.held`;
  writeFileSync(held, point);
  const deadline = performance.now() + HOLD_LIMIT_MS;
  return () => existsSync(held) && performance.now() < deadline;
}

/** What `read` gives, read far too early, when a test asks for that; else null. */
export async function staleTable<T>(read: () => T): Promise<T | null> {
  if (!asked("unsafe", "stale-table")) return null;
  const early = read();
  await sleep(STALE_MS);
  return early;
}
