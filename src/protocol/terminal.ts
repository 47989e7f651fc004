/**
 * What goes to a container's terminal: frames of a kind, a length (u32le) and bytes, the same from the command line to the shim in the
 * guest (native/guest/terminal.h), and what an agent says of them.
 */
import * as z from "zod/mini";

/** One byte each. `take` and `give` are between an agent and a shim only. */
export const FrameKinds = { typed: "i", window: "w", take: "t", give: "g", taken: "a" } as const;
export type TerminalFrameKind = (typeof FrameKinds)[keyof typeof FrameKinds];

/** Most bytes of one frame: what is typed comes in pieces. */
export const TERMINAL_FRAME_BYTES = 4096;
const HEADER_BYTES = 5;

/** Rows and columns of characters; zero where nobody knows. */
const cells = z.int().check(z.minimum(0), z.maximum(65_535));
export const WindowSchema = z.object({ rows: cells, columns: cells });
export type Window = z.infer<typeof WindowSchema>;

/** JSON in the chunks {"fd":0} of `container.attach`. */
export const AttachNoteSchema = z.discriminatedUnion("note", [
  /** Byte of the log that the chunks {"fd":1} begin at; `terminal`: whether what is typed goes anywhere. */
  z.object({ note: z.literal("at"), position: z.int().check(z.minimum(0)), terminal: z.boolean() }),
  /** So many bytes typed are the container's: wherever it goes, they go with it. */
  z.object({ note: z.literal("taken"), bytes: z.int().check(z.minimum(1)) }),
]);
export type AttachNote = z.infer<typeof AttachNoteSchema>;

export interface TerminalFrame {
  readonly kind: string;
  readonly bytes: Buffer;
}

export function encodeTerminalFrame(kind: TerminalFrameKind, bytes: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.write(kind, "latin1");
  head.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** What was typed, in as many frames as it takes. */
export function typedFrames(bytes: Uint8Array): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += TERMINAL_FRAME_BYTES)
    frames.push(encodeTerminalFrame(FrameKinds.typed, bytes.subarray(at, at + TERMINAL_FRAME_BYTES)));
  return frames;
}

export function windowFrame({ rows, columns }: Window): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(rows, 0);
  bytes.writeUInt16LE(columns, 2);
  return encodeTerminalFrame(FrameKinds.window, bytes);
}

/** Takes a byte stream apart. */
export class TerminalFrameReader {
  #held: Buffer = Buffer.alloc(0);

  /** The frames that `bytes` completes. @throws RangeError for one that is longer than TERMINAL_FRAME_BYTES */
  push(bytes: Uint8Array): TerminalFrame[] {
    this.#held = Buffer.concat([this.#held, bytes]);
    const frames: TerminalFrame[] = [];
    while (this.#held.length >= HEADER_BYTES) {
      const length = this.#held.readUInt32LE(1);
      if (length > TERMINAL_FRAME_BYTES) throw new RangeError(`a frame of ${length} bytes for a terminal`);
      if (this.#held.length < HEADER_BYTES + length) break;
      const kind = this.#held.toString("latin1", 0, 1);
      frames.push({ kind, bytes: Buffer.from(this.#held.subarray(HEADER_BYTES, HEADER_BYTES + length)) });
      this.#held = this.#held.subarray(HEADER_BYTES + length);
    }
    return frames;
  }
}
