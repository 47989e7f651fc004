/**
 * Decodes one pagemap entry (proto/pagemap.proto). By hand, because a sparse heap has a hundred thousand of them and
 * they are read while the container is frozen: a tenth of the time the general decoder takes.
 */
import { imageError, type RecordBounds } from "./image.js";

export interface PagemapEntryFields {
  /** Undefined when the entry does not have the field; a value past 2^53 is rounded and fails the caller's checks. */
  vaddr: number | undefined;
  compatPages: number | undefined;
  inParent: number | undefined;
  flags: number | undefined;
  pages: number | undefined;
}

/** Bytes of the longest varint. */
const MAX_VARINT = 10;
const WIRE_VARINT = 0;
const WIRE_64 = 1;
const WIRE_BYTES = 2;
const WIRE_32 = 5;

/** Unknown fields are passed over; @throws MWARP_E_IMAGE when the record is no protobuf message. */
export function decodePagemapEntry(
  name: string,
  bytes: Uint8Array,
  { start, end }: RecordBounds,
): PagemapEntryFields {
  const fields: PagemapEntryFields = {
    vaddr: undefined,
    compatPages: undefined,
    inParent: undefined,
    flags: undefined,
    pages: undefined,
  };
  let at = start;

  const varint = (): number => {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < MAX_VARINT && at < end; i++) {
      const byte = bytes[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
    throw imageError(name, "a record is not a PagemapEntry");
  };

  const skip = (length: number): void => {
    at += length;
    if (at > end) throw imageError(name, "a record is not a PagemapEntry");
  };

  while (at < end) {
    const tag = varint();
    const wire = tag & 7;
    const field = (tag - wire) / 8;
    if (field < 1) throw imageError(name, "a record is not a PagemapEntry");
    if (wire === WIRE_VARINT) {
      const value = varint();
      if (field === 1) fields.vaddr = value;
      else if (field === 2) fields.compatPages = value;
      else if (field === 3) fields.inParent = value;
      else if (field === 4) fields.flags = value;
      else if (field === 5) fields.pages = value;
    } else if (field <= 5) throw imageError(name, `field ${field} of an entry has wire type ${wire}`);
    else if (wire === WIRE_BYTES) skip(varint());
    else if (wire === WIRE_64) skip(8);
    else if (wire === WIRE_32) skip(4);
    else throw imageError(name, `field ${field} of an entry has wire type ${wire}`);
  }
  return fields;
}
