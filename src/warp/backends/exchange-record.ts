/**
 * What an exchange is about to do, in a form that outlives its process: enough to put every frame back.
 * Written before the first mapping is changed; read by recovery when the commit was never journaled.
 */
import { deserialize, serialize } from "node:v8";
import { z } from "zod";
import { MwarpError } from "../../errors.js";
import { fileKey } from "../../vm/backing.js";
import type { ExchangePieces, SidePieces } from "./exchange-pieces.js";

const side = z.object({
  hva: z.instanceof(Float64Array),
  offset: z.instanceof(Float64Array),
  file: z.instanceof(Uint32Array),
});
const RecordSchema = z.object({
  version: z.literal(1),
  count: z.int().nonnegative(),
  bytes: z.instanceof(Float64Array),
  source: side,
  destination: side,
  /** `fileKey` of each memory file. */
  files: z.array(z.string()),
});

export interface ExchangeRecord {
  readonly count: number;
  readonly bytes: Float64Array;
  /** What was mapped where before the exchange. */
  readonly source: SidePieces;
  readonly destination: SidePieces;
  readonly files: readonly string[];
}

export function encodeExchange(pieces: ExchangePieces): Uint8Array {
  const { count, bytes, source, destination } = pieces;
  return serialize({ version: 1, count, bytes, source, destination, files: pieces.files.map(fileKey) });
}

/** @throws MWARP_E_NEEDS_RECOVERY when the bytes are no such record */
export function decodeExchange(bytes: Uint8Array): ExchangeRecord {
  try {
    const record = RecordSchema.parse(deserialize(bytes));
    const sides = [record.source, record.destination];
    const lengths = sides.flatMap(({ hva, offset, file }) => [hva.length, offset.length, file.length]);
    if ([record.bytes.length, ...lengths].some((length) => length !== record.count))
      throw new Error("lengths differ");
    if (sides.some(({ file }) => file.some((index) => index >= record.files.length)))
      throw new Error("a piece names no file");
    return record;
  } catch (cause) {
    throw new MwarpError("MWARP_E_NEEDS_RECOVERY", "the record of the exchange cannot be read", { cause });
  }
}
