/** /proc/PID/maps, read into a reusable buffer and parsed without making strings: it is read while VMs are stopped. */
import { closeSync, openSync, readSync } from "node:fs";
import { MwarpError } from "../errors.js";

const NEWLINE = 10;
const SPACE = 32;
const NOT_HEX = 255;

/** The text of a maps file. The buffer grows when needed and is kept for the next read. */
export class MapsReader {
  readonly #path: string;
  #buffer: Buffer;

  constructor(pid: number, initialBytes = 256 * 1024) {
    this.#path = `/proc/${pid}/maps`;
    this.#buffer = Buffer.allocUnsafe(initialBytes);
  }

  /**
   * Reads the whole file. The result is valid until the next read.
   * @throws MWARP_E_VM_UNREACHABLE when the process is gone.
   */
  read(): Uint8Array {
    let fd: number | undefined;
    try {
      fd = openSync(this.#path, "r");
      let length = 0;
      for (;;) {
        if (length === this.#buffer.length) this.#grow();
        const got = readSync(fd, this.#buffer, length, this.#buffer.length - length, null);
        if (got === 0) return this.#buffer.subarray(0, length);
        length += got;
      }
    } catch (error) {
      throw new MwarpError("MWARP_E_VM_UNREACHABLE", `cannot read ${this.#path}: the VMM is gone`, {
        cause: error,
      });
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  #grow(): void {
    const larger = Buffer.allocUnsafe(this.#buffer.length * 2);
    this.#buffer.copy(larger);
    this.#buffer = larger;
  }
}

/** Number of mappings in the text of a maps file: one a line. */
export function countMappings(text: Uint8Array): number {
  let lines = 0;
  for (let at = text.indexOf(NEWLINE); at >= 0; at = text.indexOf(NEWLINE, at + 1)) lines++;
  return lines;
}

/** One mapping, as the visitor of `scanMaps` sees it. The same object is used again for the next line. */
export interface MapsLine {
  start: number;
  end: number;
  shared: boolean;
  writable: boolean;
  /** Byte offset in the file. */
  offset: number;
  major: number;
  minor: number;
  /** 0 for memory without a file. */
  inode: number;
}

/**
 * Calls `visit` for each mapping that overlaps [from, to), in ascending order.
 * Format of a line: `start-end perms offset major:minor inode [path]`, hexadecimal but for the inode (proc(5)).
 */
export function scanMaps(
  text: Uint8Array,
  from: number,
  to: number,
  visit: (line: Readonly<MapsLine>) => void,
): void {
  const line: MapsLine = {
    start: 0,
    end: 0,
    shared: false,
    writable: false,
    offset: 0,
    major: 0,
    minor: 0,
    inode: 0,
  };
  let at = 0;
  const hex = (): number => {
    let value = 0;
    // Past the end of the text the index gives undefined, which is not hexadecimal either.
    for (let digit = hexDigits[text[at]]; digit < NOT_HEX; digit = hexDigits[text[++at]])
      value = value * 16 + digit;
    return value;
  };
  while (at < text.length) {
    line.start = hex();
    at++; // -
    line.end = hex();
    at++; // space
    if (line.start >= to) return;
    if (line.end > from) {
      line.writable = text[at + 1] === 0x77; // w
      line.shared = text[at + 3] === 0x73; // s
      at += 5;
      line.offset = hex();
      at++;
      line.major = hex();
      at++;
      line.minor = hex();
      at++;
      line.inode = 0;
      for (; text[at] !== SPACE && text[at] !== NEWLINE && at < text.length; at++) {
        line.inode = line.inode * 10 + (text[at] - 48);
      }
      visit(line);
    }
    const end = text.indexOf(NEWLINE, at);
    if (end < 0) return;
    at = end + 1;
  }
}

/** Value of a hexadecimal digit by its character code; NOT_HEX for all others. */
const hexDigits = new Uint8Array(256).fill(NOT_HEX);
for (const [value, digit] of [..."0123456789abcdef"].entries()) hexDigits[digit.charCodeAt(0)] = value;
