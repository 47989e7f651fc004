/**
 * The fixed window around a command, in intervals. The clients are closed loops: while the container stands still each connection
 * waits with one operation, whose whole wait is the `max_ms` of the interval in which the answer comes. Percentiles therefore say
 * little of a gap (what would have been asked in it was not asked: coordinated omission); empty intervals and `max_ms` show it.
 */
import { createHistogram } from "node:perf_hooks";
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import { type Sample, SampleSchema } from "../records.js";
import type { Operation } from "./operations.js";

/** All in ms. */
export const WindowSchema = z.object({
  /** The instant of the command, as `monotonicMs` says it. */
  zero: z.number(),
  before: z.number(),
  after: z.number(),
  interval: z.number(),
});
export type Window = z.infer<typeof WindowSchema>;

export const TimelineSchema = z.object({
  samples: z.array(SampleSchema),
  operations: z.int(),
  expected_operations: z.number(),
});
export type Timeline = z.infer<typeof TimelineSchema>;

/** @throws MWARP_E_USAGE when the command would not lie between two intervals, or nothing before it */
export function checkWindow({ before, after, interval }: Omit<Window, "zero">): void {
  const whole = (span: number): boolean => span > 0 && Number.isInteger(span / interval);
  if (!(interval > 0) || !whole(before) || !whole(after))
    throw new MwarpError(
      "MWARP_E_USAGE",
      `${before} ms before and ${after} ms after the command are not whole numbers of intervals of ${interval} ms`,
    );
}

/** Operations, in the order in which they ended, by the interval in which they ended; none outside the window counts. */
export function cutTimeline(operations: Iterable<Operation>, window: Window): Timeline {
  const { zero, before, after, interval } = window;
  const begin = zero - before;
  const samples = Array.from({ length: Math.round((before + after) / interval) }, (_, i) =>
    emptySample(i * interval - before),
  );
  let current = -1;
  const latencies = new Latencies();
  const close = (): void => {
    if (current >= 0) Object.assign(samples[current], latencies.take());
  };
  for (const { endedAt, latencyMs } of operations) {
    const index = Math.floor((endedAt - begin) / interval);
    if (index < 0 || index >= samples.length) continue;
    if (index !== current) {
      close();
      current = index;
    }
    latencies.add(latencyMs);
  }
  close();
  const sum = (some: readonly Sample[]): number => some.reduce((total, one) => total + one.operations, 0);
  const usual = sum(samples.filter(({ at_ms }) => at_ms < 0));
  return {
    samples,
    operations: sum(samples),
    expected_operations: (usual * (before + after)) / before,
  };
}

const emptySample = (at: number): Sample => ({
  at_ms: at,
  operations: 0,
  p50_ms: null,
  p99_ms: null,
  max_ms: null,
});

/** Latencies of one interval after the other. */
class Latencies {
  /** In us, to three digits: a histogram's bounds need not be known before, and it costs the same however many there are. */
  private readonly histogram = createHistogram({ figures: 3 });
  private operations = 0;
  private max = 0;

  add(latencyMs: number): void {
    this.histogram.record(Math.max(1, Math.round(latencyMs * 1000)));
    this.operations++;
    this.max = Math.max(this.max, latencyMs);
  }

  take(): Omit<Sample, "at_ms"> {
    const max = Math.round(this.max * 1000) / 1000;
    // The histogram rounds the third digit up.
    const percentile = (p: number): number => Math.min(this.histogram.percentile(p) / 1000, max);
    const taken = {
      operations: this.operations,
      p50_ms: percentile(50),
      p99_ms: percentile(99),
      max_ms: max,
    };
    this.histogram.reset();
    this.operations = this.max = 0;
    return taken;
  }
}
