import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FEW_BYTES, nextRound, type Round, SHRINKS_TO } from "../../../src/migration/methods/rounds.js";
import { MAX_ROUNDS } from "../../../src/protocol/agent.js";

const round = (bytes: number): Round => ({ bytes, time_ms: 1 });
const MIB = 1024 ** 2;

/** Sizes of the rounds of a pre-copy of a container of `size` of which, when a round has sent n bytes, `share(n)` is dirty. */
function copy(size: number, dirtied: (sent: number) => number): number[] {
  const done: Round[] = [];
  for (let next = nextRound(done); next !== null; next = nextRound(done)) {
    expect(next).toBe(done.length + 1);
    const last = done.at(-1);
    done.push(round(last === undefined ? size : dirtied(last.bytes)));
  }
  return done.map(({ bytes }) => bytes);
}

describe("a pre-copy", () => {
  it("sends an idle container once, sees that nothing is left, and freezes", () => {
    expect(copy(1024 * MIB, () => 0)).toEqual([1024 * MIB, 0]);
  });

  it("does with one round what is small", () => {
    expect(copy(FEW_BYTES, () => FEW_BYTES)).toEqual([FEW_BYTES]);
  });

  it("freezes when a round sends nearly what the one before did", () => {
    expect(copy(1024 * MIB, (sent) => sent * 0.9)).toEqual([1024 * MIB, 1024 * MIB * 0.9]);
  });

  it("goes on while rounds get shorter", () => {
    expect(copy(1024 * MIB, (sent) => sent / 2).at(-1)).toBe(FEW_BYTES);
  });

  it("ends for every container, and never after a round that was worth another", () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 4096 * MIB }), {
      minLength: MAX_ROUNDS,
      maxLength: MAX_ROUNDS,
    });
    fc.assert(
      fc.property(sizes, (bytes) => {
        const done: Round[] = [];
        while (nextRound(done) !== null) done.push(round(bytes[done.length]!));
        expect(done.length).toBeGreaterThan(0);
        expect(done.length).toBeLessThanOrEqual(MAX_ROUNDS);
        const [last, before] = [done.at(-1)!, done.at(-2)];
        const converges = before === undefined || last.bytes <= before.bytes * SHRINKS_TO;
        expect(done.length === MAX_ROUNDS || last.bytes <= FEW_BYTES || !converges).toBe(true);
      }),
    );
  });
});
