/** Whether this run may take hours (`make soak`), and what that means for a fuzzer. */
export const long = process.env.MWARP_TEST_LONG === "1";

/** How often a fuzzer runs: `count` where every check waits for it, a hundred times as often where there is time. */
export const runs = (count: number): number => (long ? 100 * count : count);

/** Time limit of a fuzzer that needs more than a unit test has, ms. */
export const patience = long ? 3_600_000 : 30_000;
