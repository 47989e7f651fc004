/** Two processes that stand for VMMs, and real exchanges between them: the back ends are those of a migration. */
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { MemoryKind } from "../../protocol/costs.js";
import type { BackedRam } from "../backed-pieces.js";
import type { CompletedExchange } from "../backend.js";
import { CopyBackend } from "../backends/copy.js";
import { RemapBackend } from "../backends/remap.js";
import { type Candidates, cutByBacking } from "../candidates.js";
import { execute } from "../execute.js";
import type { Extents } from "../extent-list.js";
import type { ExchangePlan } from "../planner.js";
import { MemoryProcess } from "./memory-process.js";

/** Microseconds. */
export interface TrialTimes {
  readonly exchangeUs: number;
  /** Touching every page of the destination afterwards. */
  readonly touchUs: number;
}

export class MemoryPair implements AsyncDisposable {
  readonly source: MemoryProcess;
  readonly destination: MemoryProcess;
  readonly #sockets: readonly string[];

  private constructor(source: MemoryProcess, destination: MemoryProcess, sockets: readonly string[]) {
    this.source = source;
    this.destination = destination;
    this.#sockets = sockets;
  }

  /** With so many 4 KiB pages each. @returns null when this host has no such memory now */
  static async start(kind: MemoryKind, pages: number, signal: AbortSignal): Promise<MemoryPair | null> {
    const name = randomBytes(6).toString("hex");
    const sockets = ["a", "b"].map((side) => path.join(tmpdir(), `mwarp-${name}-${side}.sock`));
    const starts = await Promise.allSettled(
      sockets.map((socket) => MemoryProcess.start(kind, pages, socket, signal)),
    );
    const [source, destination] = starts.map((start) => (start.status === "fulfilled" ? start.value : null));
    if (source !== null && destination !== null) return new MemoryPair(source, destination, sockets);
    await source?.[Symbol.asyncDispose]();
    await destination?.[Symbol.asyncDispose]();
    removeSockets(sockets);
    const failure = starts.find((start) => start.status === "rejected");
    if (failure !== undefined) throw failure.reason;
    return null;
  }

  candidates(extents: Extents): Candidates {
    return cutByBacking(extents, backed(this.source), backed(this.destination));
  }

  /** How many mappings the one with more of them has. */
  mappings(): number {
    return Math.max(this.source.backing.read().mappings, this.destination.backing.read().mappings);
  }

  /** Carries a plan out as the stun does, touches every page of the destination, and puts everything back. */
  async run(plan: Pick<ExchangePlan, "remap" | "copy">, signal: AbortSignal): Promise<TrialTimes> {
    const [source, destination] = [this.source, this.destination];
    const { copier, exchanger } = this.#backends();
    const start = performance.now();
    const { exchange } = await execute({ ...plan, ...NO_TIMES }, { copier, exchanger, signal });
    const exchangeUs = (performance.now() - start) * 1000;
    const touchUs = await destination.touch(signal);
    await exchange?.undo();
    await exchange?.release();
    await Promise.all([source.touch(signal), destination.touch(signal)]);
    return { exchangeUs, touchUs };
  }

  /** Only the exchange, to be undone or released by the caller. */
  exchange(extents: Extents, signal: AbortSignal): Promise<CompletedExchange> {
    return this.#backends().exchanger.exchange(extents, signal);
  }

  #backends(): { readonly copier: CopyBackend; readonly exchanger: RemapBackend } {
    const [source, destination] = [this.source, this.destination];
    const [from, to] = [backed(source), backed(destination)];
    return {
      copier: new CopyBackend({ pid: source.pid, ...from }, { pid: destination.pid, ...to }),
      exchanger: new RemapBackend(
        { now: from, library: source.library, backing: source.backing },
        { now: to, library: destination.library, backing: destination.backing },
        () => undefined,
      ),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.source[Symbol.asyncDispose](), this.destination[Symbol.asyncDispose]()]);
    removeSockets(this.#sockets);
  }
}

/** Nobody asks a trial what was predicted. */
const NO_TIMES = { predictedMs: 0, allRemapMs: null, allCopyMs: 0 };

const backed = ({ ram, backing }: MemoryProcess): BackedRam => ({ ram, backing: backing.read() });

function removeSockets(sockets: readonly string[]): void {
  for (const socket of sockets) rmSync(socket, { force: true });
}
