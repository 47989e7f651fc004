/** Applications that move while a client is busy with them, as the benchmark measures them, in small. */
import { afterAll, describe, expect, it } from "vitest";
import { ApplicationSession } from "../../src/bench/applications/index.js";
import {
  type Application,
  type ApplicationRecord,
  ApplicationRecordSchema,
} from "../../src/bench/records.js";
import type { MigrationMethod } from "../../src/protocol/migration.js";
import { useLab } from "../support/lab.js";
import { long } from "../support/long.js";

const MIB = 1024 * 1024;
const INTERVAL_MS = 250;
const BEFORE_MS = 2_000;

const host = useLab({ memory: "1G" });
const ending = new AbortController();
afterAll(() => ending.abort());

/** Data that is small for the tests' sake, and a window that is long enough for a move under TCG. */
const cases: readonly {
  readonly application: Application;
  readonly bytes: number;
  readonly afterMs: number;
  /** Besides warp, by which each is moved in the test of the window. */
  readonly methods: readonly MigrationMethod[];
}[] = [
  { application: "redis", bytes: 16 * MIB, afterMs: 8_000, methods: ["precopy"] },
  { application: "memory", bytes: 16 * MIB, afterMs: 8_000, methods: ["postcopy"] },
  { application: "postgres", bytes: MIB, afterMs: 16_000, methods: long ? ["cold"] : [] },
];

/** The longest wait that shows in a record, ms: for an answer that came, or for one that did not come in the window. */
function longestWait({ samples }: ApplicationRecord): number {
  let longest = 0;
  let empty = 0;
  for (const { operations, max_ms } of samples) {
    empty = operations === 0 ? empty + INTERVAL_MS : 0;
    longest = Math.max(longest, empty, max_ms ?? 0);
  }
  return longest;
}

describe.each(cases)("$application with a busy client", ({ application, bytes, afterMs, methods }) => {
  let session: ApplicationSession;
  afterAll(() => session?.[Symbol.asyncDispose]());

  it("starts and is loaded", async () => {
    const { namespace, rootfs } = await host.lab.status();
    session = await ApplicationSession.start({
      application,
      backing: "4k",
      daemon: host.lab.daemon,
      lab: { namespace, rootfs, vms: ["vm-a", "vm-b"].map((name) => ({ endpoint: { name } })) },
      signal: ending.signal,
      bytes,
      connections: 2,
      windowBeforeMs: BEFORE_MS,
      windowAfterMs: afterMs,
      intervalMs: INTERVAL_MS,
    });
  });

  it.each(methods)("loses no connection and gets no wrong answer when it moves by %s", async (method) => {
    const record = await session.measure(method, 0);
    expect(ApplicationRecordSchema.parse(record)).toEqual(record);
    expect(record).toMatchObject({ kind: "application", application, method, interval_ms: INTERVAL_MS });
    expect(record.report).toMatchObject({ outcome: "committed", method });
    expect(record.faults).toEqual({ connections_lost: 0, wrong_answers: 0 });
  });

  it("covers the window without a hole, and shows the move as a gap in it", async () => {
    const record = await session.measure("warp", 1);
    const { samples, operations, expected_operations, report, faults } = record;
    expect(faults).toEqual({ connections_lost: 0, wrong_answers: 0 });
    expect(samples.map(({ at_ms }) => at_ms)).toEqual(
      Array.from({ length: (BEFORE_MS + afterMs) / INTERVAL_MS }, (_, i) => i * INTERVAL_MS - BEFORE_MS),
    );
    expect(operations).toBe(samples.reduce((sum, one) => sum + one.operations, 0));
    const before = samples.filter(({ at_ms }) => at_ms < 0);
    const usual = before.reduce((sum, one) => sum + one.operations, 0);
    expect(usual).toBeGreaterThan(0);
    expect(expected_operations).toBeCloseTo((usual * (BEFORE_MS + afterMs)) / BEFORE_MS, 3);
    // Other work on the machine may have slowed it before the move more than the move did after.
    expect(operations).toBeLessThan(expected_operations * 3);
    // The report's downtime is what it was at most, and what lies behind the window is not seen.
    const { total, downtime } = report.time_ms;
    expect(longestWait(record)).toBeGreaterThan(Math.min(downtime, afterMs - (total - downtime)) / 2);
  });

  it("leaves neither container nor client", async () => {
    await session[Symbol.asyncDispose]();
    const { containers } = await host.lab.daemon.containers();
    expect(containers).toEqual([]);
  });
});
