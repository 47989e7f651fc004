/** Facts of a running VM that others need, read from the VMM. */
import { MwarpError } from "../errors.js";
import type { QmpCallOptions, QmpClient } from "./qmp.js";

const CR4_LA57 = 0x1000n;

/** Page-table levels from the text of `info registers`: CR4.LA57 (bit 12) says five. */
export function parsePagingLevels(registers: string): 4 | 5 {
  const cr4 = /\bCR4=([0-9a-fA-F]+)\b/.exec(registers);
  if (cr4 === null) throw new MwarpError("MWARP_E_PROTOCOL", "QEMU shows no CR4: not an x86-64 VM");
  return (BigInt(`0x${cr4[1]}`) & CR4_LA57) === 0n ? 4 : 5;
}

/** Levels of the guest's page tables. Fixed once the guest kernel has booted. */
export async function pagingLevels(qmp: QmpClient, options?: QmpCallOptions): Promise<4 | 5> {
  return parsePagingLevels(await qmp.humanCommand("info registers", options));
}
