/** Times of a piece of work, for tests that bound it. */

export interface Timing {
  /** Processor time of this process, ms: what the work takes, however busy the machine is. The least of all tries. */
  readonly cpuMs: number;
  /** First and best, for the log; the first is with cold code. */
  readonly text: string;
}

/** Runs `work` three times. */
export function timed(work: () => void): Timing {
  const tries = [0, 1, 2].map(() => {
    const cpu = process.cpuUsage();
    const start = performance.now();
    work();
    const wallMs = performance.now() - start;
    const { user, system } = process.cpuUsage(cpu);
    return { cpuMs: (user + system) / 1000, wallMs };
  });
  const text = tries.map(({ cpuMs, wallMs }) => `${wallMs.toFixed(1)} (cpu ${cpuMs.toFixed(1)})`).join(", ");
  return { cpuMs: Math.min(...tries.map((one) => one.cpuMs)), text };
}
