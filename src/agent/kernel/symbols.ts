/** Addresses of a few kernel symbols. /proc/kallsyms is large; the C program reads it (native/guest/symbols.c). */
import { MwarpError } from "../../errors.js";
import { HELPER } from "../paths.js";
import { run } from "../process.js";

/** Lines "NAME ADDRESS", address in hexadecimal. */
export function parseSymbols(text: string): Map<string, bigint> {
  const lines = text.matchAll(/^(\S+) ([0-9a-f]+)$/gm);
  return new Map([...lines].map(([, name, address]) => [name as string, BigInt(`0x${address}`)]));
}

/** Addresses of all `names`. `MWARP_E_UNSUPPORTED` when one is missing or hidden (kptr_restrict). */
export async function readSymbols(names: readonly string[]): Promise<Map<string, bigint>> {
  const found = parseSymbols((await run([HELPER, "symbols", ...names])).stdout);
  for (const name of names) {
    if (!found.get(name))
      throw new MwarpError("MWARP_E_UNSUPPORTED", `the kernel does not show symbol ${name}`);
  }
  return found;
}
