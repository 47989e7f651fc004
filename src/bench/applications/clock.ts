/** CLOCK_MONOTONIC of the host, ms: the one clock that all processes of the host read alike. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
