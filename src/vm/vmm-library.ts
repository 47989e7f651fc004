/** Client of the library preloaded into a VMM. The protocol is written down in native/vmm/protocol.h. */
import { connect as connectSocket, type Socket } from "node:net";
import { getSystemErrorName } from "node:util";
import { MwarpError } from "../errors.js";
import type { ByteCount, Hva } from "../units.js";
import { type Deferred, deferred, limited } from "./deferred.js";

const MAGIC = 0x5657574d;
const VERSION = 1;
const HEADER_BYTES = 24;
const EXTENT_WORDS = 10;
const CONNECT_TIMEOUT_MS = 3000;
const REQUEST_TIMEOUT_MS = 30_000;
/** Most extents in one MAP request. */
export const MAX_EXTENTS = 100_000;

const Type = { hello: 1, open: 2, close: 3, region: 4, map: 5 } as const;
type Type = (typeof Type)[keyof typeof Type];

export interface VmmCallOptions {
  signal?: AbortSignal;
  /** Milliseconds. */
  timeoutMs?: number;
}

/** A memory file opened by the VMM for this connection. */
export interface VmmFile {
  readonly handle: number;
  /** Addresses, offsets and lengths of extents must be multiples of this. */
  readonly pageBytes: number;
  readonly major: number;
  readonly minor: number;
  readonly inode: number;
  readonly bytes: number;
}

/** What to map where, in ascending order of `hva`; only the first `count` entries of each array are used. */
export interface MapExtents {
  readonly count: number;
  readonly hva: Float64Array;
  readonly bytes: Float64Array;
  readonly offset: Float64Array;
  readonly handle: Uint32Array;
  /** What backs the extent now, for the undo. */
  readonly oldOffset: Float64Array;
  readonly oldHandle: Uint32Array;
}

interface Reply {
  readonly error: number;
  readonly body: Buffer;
}

interface Request extends Deferred<Reply> {
  readonly type: Type;
}

/** One connection. Requests may overlap and are answered in order. */
export class VmmLibrary {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #waiting: Request[] = [];
  #received: Buffer = Buffer.alloc(0);
  #failure: MwarpError | null = null;
  #nextId = 1;
  #pid = 0;

  private constructor(path: string, socket: Socket) {
    this.#path = path;
    this.#socket = socket;
    socket.on("data", (data: Buffer) => this.#receive(data));
    socket.on("error", (error) => this.#fail(this.#unreachable(error.message, error)));
    socket.on("close", () => this.#fail(this.#unreachable("the VMM closed the connection")));
  }

  /** @throws MWARP_E_VM_UNREACHABLE when no library listens; MWARP_E_PROTOCOL when it speaks another version. */
  static async connect(path: string, options: VmmCallOptions = {}): Promise<VmmLibrary> {
    const library = new VmmLibrary(path, connectSocket({ path }));
    try {
      const { body } = await library.#request("HELLO", Type.hello, [], {
        timeoutMs: CONNECT_TIMEOUT_MS,
        ...options,
      });
      library.#pid = body.readUInt32LE(0);
      return library;
    } catch (error) {
      library.close();
      throw error;
    }
  }

  /** Pid of the VMM, as the VMM says. */
  get pid(): number {
    return this.#pid;
  }

  /** Tells where guest RAM lies. MAP goes nowhere else. Telling the same again is fine. */
  async region(address: Hva, bytes: ByteCount, options: VmmCallOptions = {}): Promise<void> {
    const body = Buffer.alloc(16);
    body.writeBigUInt64LE(BigInt(address), 0);
    body.writeBigUInt64LE(BigInt(bytes), 8);
    await this.#request("REGION", Type.region, [body], options);
  }

  /** Lets the VMM open a memory file, e.g. another VMM's /proc/PID/map_files/RANGE. The connection holds it open. */
  async open(path: string, options: VmmCallOptions = {}): Promise<VmmFile> {
    const { body } = await this.#request(`OPEN ${path}`, Type.open, [Buffer.from(path)], options);
    return {
      handle: body.readUInt32LE(0),
      pageBytes: body.readUInt32LE(4),
      major: body.readUInt32LE(8),
      minor: body.readUInt32LE(12),
      inode: Number(body.readBigUInt64LE(16)),
      bytes: Number(body.readBigUInt64LE(24)),
    };
  }

  async closeFile(handle: number, options: VmmCallOptions = {}): Promise<void> {
    const body = Buffer.alloc(4);
    body.writeUInt32LE(handle);
    await this.#request("CLOSE", Type.close, [body], options);
  }

  /**
   * Replaces what backs the extents: all of them, or none.
   * @throws MWARP_E_WARP naming the extent and the system's reason; MWARP_E_NEEDS_RECOVERY when not even the old mapping
   * could be put back. On MWARP_E_TIMEOUT and MWARP_E_VM_UNREACHABLE only the VMM's maps can tell what was done.
   */
  async map(extents: MapExtents, options: VmmCallOptions = {}): Promise<void> {
    await this.mapEncoded(encodeExtents(extents), options);
  }

  /** The same with the extents already in wire form (`encodeExtents`): nothing is left to do in the stun but to send. */
  async mapEncoded(body: Buffer, options: VmmCallOptions = {}): Promise<void> {
    await this.#request("MAP", Type.map, [body], options, body.length / (EXTENT_WORDS * 4));
  }

  close(): void {
    this.#fail(this.#unreachable("the connection was closed by mWarp"));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #unreachable(what: string, cause?: unknown): MwarpError {
    return new MwarpError("MWARP_E_VM_UNREACHABLE", `memory library ${this.#path}: ${what}`, { cause });
  }

  async #request(
    what: string,
    type: Type,
    body: Buffer[],
    options: VmmCallOptions,
    count = 0,
  ): Promise<Reply> {
    if (this.#failure !== null) throw this.#failure;
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(MAGIC, 0);
    header.writeUInt16LE(VERSION, 4);
    header.writeUInt16LE(type, 6);
    header.writeUInt32LE(this.#nextId++ >>> 0, 8);
    header.writeUInt32LE(count, 16);
    header.writeUInt32LE(body[0]?.length ?? 0, 20);
    const request: Request = { ...deferred<Reply>(), type };
    this.#waiting.push(request);
    this.#socket.cork();
    this.#socket.write(header);
    for (const part of body) this.#socket.write(part);
    this.#socket.uncork();
    const timeoutMs = options.timeoutMs ?? REQUEST_TIMEOUT_MS;
    const reply = await limited(request.promise, {
      timeoutMs,
      signal: options.signal,
      onTimeout: () =>
        new MwarpError("MWARP_E_TIMEOUT", `memory library: no answer to ${what} in ${timeoutMs} ms`),
    });
    if (reply.error !== 0) throw refusal(what, reply);
    return reply;
  }

  #receive(data: Buffer): void {
    this.#received = this.#received.length === 0 ? data : Buffer.concat([this.#received, data]);
    while (this.#received.length >= HEADER_BYTES) {
      const bodyBytes = this.#received.readUInt32LE(20);
      const end = HEADER_BYTES + bodyBytes;
      const request = this.#waiting[0];
      if (
        this.#received.readUInt32LE(0) !== MAGIC ||
        this.#received.readUInt16LE(4) !== VERSION ||
        request === undefined
      ) {
        this.#fail(
          new MwarpError("MWARP_E_PROTOCOL", `memory library ${this.#path} speaks another protocol`),
        );
        return;
      }
      if (this.#received.length < end) return;
      const reply = {
        error: this.#received.readInt32LE(12),
        body: this.#received.subarray(HEADER_BYTES, end),
      };
      this.#received = this.#received.subarray(end);
      this.#waiting.shift();
      request.resolve(reply);
    }
  }

  #fail(error: MwarpError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    for (const request of this.#waiting.splice(0)) request.reject(error);
    this.#socket.destroy();
  }
}

function refusal(what: string, { error, body }: Reply): MwarpError {
  const reason = getSystemErrorName(error);
  if (body.length < 8) return new MwarpError("MWARP_E_WARP", `memory library: ${what}: ${reason}`);
  const index = body.readUInt32LE(0);
  const undo = body.readInt32LE(4);
  if (undo === 0)
    return new MwarpError("MWARP_E_WARP", `memory library: extent ${index}: ${reason}; all undone`);
  return new MwarpError(
    "MWARP_E_NEEDS_RECOVERY",
    `memory library: extent ${index}: ${reason}, and the old mapping could not be put back: ${getSystemErrorName(undo)}`,
    { hint: "The VM's memory is damaged: stop the VM." },
  );
}

/** The wire form of a MAP request's extents. @throws MWARP_E_WARP when there are too many for one request. */
export function encodeExtents(extents: MapExtents): Buffer {
  if (extents.count > MAX_EXTENTS)
    throw new MwarpError(
      "MWARP_E_WARP",
      `${extents.count} extents are too many for one request (${MAX_EXTENTS})`,
    );
  const words = new Uint32Array(extents.count * EXTENT_WORDS);
  const put = (at: number, value: number): void => {
    words[at] = value >>> 0;
    words[at + 1] = Math.floor(value / 2 ** 32);
  };
  for (let index = 0, at = 0; index < extents.count; index++, at += EXTENT_WORDS) {
    put(at, extents.hva[index]);
    put(at + 2, extents.bytes[index]);
    put(at + 4, extents.offset[index]);
    put(at + 6, extents.oldOffset[index]);
    words[at + 8] = extents.handle[index];
    words[at + 9] = extents.oldHandle[index];
  }
  return Buffer.from(words.buffer);
}
