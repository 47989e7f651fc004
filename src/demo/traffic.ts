/**
 * A client that never stops: writes and reads over one connection and watches what it gets. Each round increments a
 * counter on the server and reads back what the round before wrote; an increment that was lost, or done twice, or a
 * value of another time shows at once.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { RedisConnection } from "../redis/connection.js";
import type { TrafficReport } from "./client-protocol.js";

const CONNECT_MS = 2_000;
const RECONNECT_PAUSE_MS = 50;
const ROUND_PAUSE_MS = 5;

export class Traffic {
  private operations = 0;
  /** Answered since the start; never reset. */
  private rounds = 0;
  private maxGap = 0;
  private reconnects = 0;
  private wrong = 0;
  private lastAnswer = performance.now();
  private expected: number | null = null;
  private lastToken = "";
  private readonly stopped = new AbortController();

  constructor(
    private readonly host: string,
    private readonly port: number,
  ) {}

  /** Runs until `stop`. Never rejects: trouble is counted. */
  async run(): Promise<void> {
    const { signal } = this.stopped;
    this.lastAnswer = performance.now();
    for (let first = true; !signal.aborted; first = false) {
      try {
        if (!first) {
          this.reconnects++;
          await sleep(RECONNECT_PAUSE_MS);
        }
        const redis = await RedisConnection.open(this.host, this.port, CONNECT_MS);
        signal.addEventListener("abort", () => redis.close(), { once: true });
        await this.converse(redis, signal);
      } catch {
        // The connection is lost (counted above when the next one is tried). Whether the increment under way was done is
        // not known, so the count starts anew from what the server says.
        this.expected = null;
        this.lastToken = "";
      }
    }
  }

  stop(): void {
    this.stopped.abort();
  }

  /** Whether an answer came within `timeoutMs`, ms. */
  async flows(timeoutMs: number): Promise<boolean> {
    const before = this.rounds;
    const deadline = performance.now() + timeoutMs;
    while (this.rounds === before) {
      if (performance.now() > deadline) return false;
      await sleep(ROUND_PAUSE_MS);
    }
    return true;
  }

  /** What happened since the last call. A gap that is still open counts with what it has reached. */
  take(): TrafficReport {
    const now = performance.now();
    const report: TrafficReport = {
      operations: this.operations,
      max_gap_ms: Math.max(this.maxGap, now - this.lastAnswer),
      reconnects: this.reconnects,
      wrong: this.wrong,
    };
    this.operations = this.maxGap = this.reconnects = this.wrong = 0;
    this.lastAnswer = now;
    return report;
  }

  private async converse(redis: RedisConnection, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const token = `${this.operations}-${Math.random()}`;
      const [count, read] = await Promise.all([
        redis.call("INCR", "demo:counter"),
        redis.call("GETSET", "demo:token", token),
      ]);
      this.answered();
      if (this.expected !== null && count !== this.expected) this.wrong++;
      if (this.lastToken !== "" && (!Buffer.isBuffer(read) || read.toString() !== this.lastToken))
        this.wrong++;
      this.expected = Number(count) + 1;
      this.lastToken = token;
      await sleep(ROUND_PAUSE_MS);
    }
  }

  private answered(): void {
    const now = performance.now();
    this.maxGap = Math.max(this.maxGap, now - this.lastAnswer);
    this.lastAnswer = now;
    this.operations += 2;
    this.rounds++;
  }
}
