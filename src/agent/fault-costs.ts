/** What this kernel takes for memory that is staged ahead, measured once (native/guest/faults.c). */
import type { FaultCosts } from "../protocol/guest-info.js";
import { log } from "./log.js";
import { HELPER } from "./paths.js";
import { run } from "./process.js";

const LIMIT_MS = 20_000;

let measured: Promise<FaultCosts | null> | null = null;

/** Null where memory cannot be staged, or it could not be measured. */
export function faultCosts(): Promise<FaultCosts | null> {
  measured ??= measure().catch((error: unknown) => {
    log("warn", `what faults cost is not known: ${String(error)}`);
    return null;
  });
  return measured;
}

async function measure(): Promise<FaultCosts | null> {
  const { code, stdout, stderr } = await run([HELPER, "fault-costs"], { timeoutMs: LIMIT_MS });
  const [hugeUs, smallUs, takeHugeUs, takeSmallUs, moveUs] = stdout.trim().split(" ").map(Number);
  if (code === 0 && moveUs !== undefined)
    return { hugeUs, smallUs, takeHugeUs, takeSmallUs, moveUs } as FaultCosts;
  log("warn", `memory is not staged here: ${stderr.trim()}`);
  return null;
}
