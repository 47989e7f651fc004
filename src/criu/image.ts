/**
 * Framing of CRIU's image files: magic numbers, then records of u32le length and a protobuf message (criu/protobuf.c).
 * Images come from a guest and may be anything: whatever is wrong ends in MWARP_E_IMAGE.
 */
import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { MwarpError } from "../errors.js";

const COMMON_MAGIC = 0x54564319;

/** Magic numbers of the images mWarp reads (criu/include/magic.h). */
const magics = {
  inventory: 0x58313116,
  pstree: 0x50273030,
  core: 0x55053847,
  mm: 0x57492820,
  pagemap: 0x56084025,
  files: 0x56303138,
  tcpStream: 0x51465506,
  remapFpath: 0x59133954,
} as const;
export type ImageKind = keyof typeof magics;

export function imageError(name: string, problem: string, cause?: unknown): MwarpError {
  return new MwarpError("MWARP_E_IMAGE", `${name}: ${problem}`, cause === undefined ? {} : { cause });
}

/** The inventory alone has no common magic before its own. */
const header = (kind: ImageKind): number[] =>
  kind === "inventory" ? [magics.inventory] : [COMMON_MAGIC, magics[kind]];

/** Where a record of an image begins and ends, bytes. */
export interface RecordBounds {
  readonly start: number;
  readonly end: number;
}

/**
 * Finds the records of an image.
 * @throws MWARP_E_IMAGE when the magic is another or a record goes past the end.
 */
export function* recordBounds(name: string, kind: ImageKind, bytes: Uint8Array): Generator<RecordBounds> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = header(kind);
  let at = magic.length * 4;
  if (bytes.length < at || magic.some((value, i) => view.getUint32(i * 4, true) !== value)) {
    throw imageError(name, `not a CRIU ${kind} image (wrong magic)`);
  }
  while (at < bytes.length) {
    if (bytes.length - at < 4) throw imageError(name, `cut off at byte ${at}, inside a record's length`);
    const length = view.getUint32(at, true);
    const start = at + 4;
    if (length > bytes.length - start) {
      throw imageError(name, `a record of ${length} bytes at byte ${start} goes past the end`);
    }
    at = start + length;
    yield { start, end: at };
  }
}

/** The records of an image, as views of `bytes`; @throws MWARP_E_IMAGE. */
export function decodeImage(name: string, kind: ImageKind, bytes: Uint8Array): Uint8Array[] {
  return Array.from(recordBounds(name, kind, bytes), ({ start, end }) => bytes.subarray(start, end));
}

export function encodeImage(kind: ImageKind, records: readonly Uint8Array[]): Uint8Array {
  const magic = header(kind);
  const size = records.reduce((sum, record) => sum + 4 + record.length, magic.length * 4);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  magic.forEach((value, i) => {
    view.setUint32(i * 4, value, true);
  });
  let at = magic.length * 4;
  for (const record of records) {
    view.setUint32(at, record.length, true);
    bytes.set(record, at + 4);
    at += 4 + record.length;
  }
  return bytes;
}

/** Decodes one record; @throws MWARP_E_IMAGE. */
export function decodeRecord<D extends DescMessage>(
  name: string,
  schema: D,
  record: Uint8Array,
): MessageShape<D> {
  try {
    return fromBinary(schema, record);
  } catch (error) {
    throw imageError(name, `a record is not a ${schema.name}`, error);
  }
}

/** Decodes an image that holds exactly one record; @throws MWARP_E_IMAGE. */
export function decodeSingle<D extends DescMessage>(
  name: string,
  kind: ImageKind,
  schema: D,
  bytes: Uint8Array,
): MessageShape<D> {
  const [record, ...more] = decodeImage(name, kind, bytes);
  if (record === undefined || more.length > 0)
    throw imageError(name, `${more.length + (record ? 1 : 0)} records instead of one`);
  return decodeRecord(name, schema, record);
}
