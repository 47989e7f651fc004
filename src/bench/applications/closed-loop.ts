/**
 * A client that is never idle: on each of its connections it asks, waits for the answer, and asks again at once. It can be
 * paused between two operations.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Connection, ConnectionLost } from "./application.js";
import type { Faults } from "./client-protocol.js";
import { monotonicMs } from "./clock.js";
import type { OperationLog } from "./operations.js";

const RECONNECT_PAUSE_MS = 50;

/** One of the connections. */
class Lane {
  connection: Connection | null = null;
  /** Resolves when it has stopped asking; it never rejects. */
  run: Promise<void> = Promise.resolve();
}

export class ClosedLoop {
  private readonly lanes: readonly Lane[];
  private paused = true;
  private lost = 0;
  private wrong = 0;
  private defect: unknown = null;

  constructor(
    connections: number,
    private readonly connect: (lane: number) => Promise<Connection>,
    private readonly log: OperationLog,
  ) {
    this.lanes = Array.from({ length: connections }, () => new Lane());
  }

  /** Asks from now on. The connections stay those that were open before. */
  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    for (const [index, lane] of this.lanes.entries()) lane.run = this.ask(index, lane);
  }

  /**
   * Waits for the answers that are still to come, and asks no more. A connection that gets its answer not even within `timeoutMs` is
   * given up as lost.
   */
  async pause(timeoutMs: number): Promise<void> {
    this.paused = true;
    const giveUp = setTimeout(() => {
      for (const { connection } of this.lanes) connection?.close();
    }, timeoutMs);
    try {
      await Promise.all(this.lanes.map(({ run }) => run));
    } finally {
      clearTimeout(giveUp);
    }
  }

  /** What went wrong since the last call. @throws what was thrown by an operation and is no fault of the application */
  takeFaults(): Faults {
    if (this.defect !== null) throw this.defect;
    const faults = { connections_lost: this.lost, wrong_answers: this.wrong };
    this.lost = this.wrong = 0;
    return faults;
  }

  private async ask(index: number, lane: Lane): Promise<void> {
    try {
      while (!this.paused) await this.askOnce(index, lane);
    } catch (error) {
      this.defect ??= error;
    }
  }

  private async askOnce(index: number, lane: Lane): Promise<void> {
    try {
      lane.connection ??= await this.connect(index);
      const begin = monotonicMs();
      this.wrong += await lane.connection.operate();
      const end = monotonicMs();
      this.log.add(end, end - begin);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      // One that cannot be opened again was lost once.
      if (lane.connection !== null) this.lost++;
      lane.connection?.close();
      lane.connection = null;
      await sleep(RECONNECT_PAUSE_MS);
    }
  }
}
