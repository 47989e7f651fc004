/** The host's end of an agent's port: a UNIX socket of the VMM, one client at a time. Handshake, frames, byte counts. */
import { randomBytes } from "node:crypto";
import { createConnection, type Socket } from "node:net";
import { MwarpError } from "../errors.js";
import {
  encodeFrame,
  encodeMarker,
  type Frame,
  type FrameKind,
  FrameReader,
  NONCE_BYTES,
  SYNC,
  SYNC_ACK,
} from "../protocol/frame.js";

/** An agent that starts, or whose port was just opened, may miss a marker: it is sent again this often. */
const SYNC_INTERVAL_MS = 300;

export interface ChannelBytes {
  readonly sent: number;
  readonly received: number;
}

const unreachable = (socketPath: string, why: string, cause?: unknown): MwarpError =>
  new MwarpError("MWARP_E_AGENT_UNREACHABLE", `no agent at ${socketPath}: ${why}`, { cause });

/** An open, synchronised channel. Frames arrive through `onFrame`, its end through `onClose`, once. */
export class Channel {
  onFrame: (frame: Frame) => void = () => undefined;
  onClose: (reason: MwarpError) => void = () => undefined;
  #sent = 0;
  #closed: MwarpError | null = null;
  #drained: (() => void)[] = [];
  readonly #reader = new FrameReader(SYNC_ACK);
  readonly #nonce = randomBytes(NONCE_BYTES);
  readonly #socket: Socket;
  readonly #path: string;
  #ready: (() => void) | null = null;

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
    socket.on("data", (bytes: Uint8Array) => this.#receive(bytes));
    socket.on("drain", () => this.#releaseWriters());
    socket.on("error", (error) => this.#finish(unreachable(path, error.message, error)));
    socket.on("close", () => this.#finish(unreachable(path, "the connection was closed")));
  }

  /** Connects and synchronises. `signal` must end by itself: the VMM lets a second client wait for ever. */
  static async open(path: string, signal: AbortSignal): Promise<Channel> {
    signal.throwIfAborted();
    const channel = new Channel(createConnection(path), path);
    try {
      await channel.#synchronise(signal);
      return channel;
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  get bytes(): ChannelBytes {
    return { sent: this.#sent, received: this.#socket.bytesRead };
  }

  /** Why the channel ended, or null while it is open. */
  get closed(): MwarpError | null {
    return this.#closed;
  }

  /** Sends a frame; resolves when the socket takes more. */
  send(kind: FrameKind, id: number, json: unknown, payload?: Uint8Array): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closed);
    return this.#write(encodeFrame(kind, id, json, payload));
  }

  close(): void {
    this.#finish(unreachable(this.#path, "closed by this side"));
  }

  /** Ends the channel because of what the agent did on it. */
  violated(what: string): void {
    this.#finish(new MwarpError("MWARP_E_PROTOCOL", `the agent at ${this.#path} ${what}`));
  }

  #write(bytes: Uint8Array): Promise<void> {
    this.#sent += bytes.length;
    if (this.#socket.write(bytes) || this.#closed) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  #releaseWriters(): void {
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  #receive(bytes: Uint8Array): void {
    for (const item of this.#reader.push(bytes)) {
      if (this.#closed) return;
      if (item.type === "frame") {
        if (!this.#ready) this.onFrame(item.frame);
      } else if (this.#nonce.equals(item.nonce)) {
        this.#ready?.();
        this.#ready = null;
      } else if (!this.#ready) {
        // A new agent says so with a marker of its own: it knows nothing of what the old one was asked.
        this.#finish(unreachable(this.#path, "the agent was started again"));
        return;
      }
    }
    if (!this.#reader.synced && !this.#ready && !this.#closed) {
      this.violated("sent bytes that are no frame");
    }
  }

  #synchronise(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sync = encodeMarker(SYNC, this.#nonce);
      const timer = setInterval(() => void this.#write(sync), SYNC_INTERVAL_MS);
      const settle = (act: () => void) => {
        clearInterval(timer);
        signal.removeEventListener("abort", onAbort);
        act();
      };
      const onAbort = () => settle(() => reject(signal.reason));
      signal.addEventListener("abort", onAbort);
      this.onClose = (reason) => settle(() => reject(reason));
      this.#ready = () => settle(resolve);
      void this.#write(sync);
    });
  }

  #finish(reason: MwarpError): void {
    if (this.#closed) return;
    this.#closed = reason;
    this.#socket.destroy();
    this.#releaseWriters();
    this.onClose(reason);
  }
}
