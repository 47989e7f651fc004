import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ExchangeCostsSchema } from "../../../src/protocol/costs.js";
import { type CostSample, fitCosts } from "../../../src/warp/cost-model.js";

const truth = {
  remapSetupUs: 400,
  remapPerExtentUs: 15,
  remapPerPageUs: 0.3,
  touchPerExtentUs: 2,
  touchPerPageUs: 0.5,
  copySetupUs: 120,
  copyPerExtentUs: 0.2,
  copyPerPageUs: 0.09,
};

/** What a host with these costs would show. */
function sample(extents: number, runPages: number): CostSample {
  const line = (perExtent: number, perPage: number): number => extents * (perExtent + runPages * perPage);
  return {
    extents,
    runPages,
    remapUs: truth.remapSetupUs + line(truth.remapPerExtentUs, truth.remapPerPageUs),
    touchUs: line(truth.touchPerExtentUs, truth.touchPerPageUs),
    copyUs: truth.copySetupUs + line(truth.copyPerExtentUs, truth.copyPerPageUs),
  };
}

describe("costs", () => {
  it("are found again in samples that were made of them", () => {
    const short = sample(1024, 1);
    const fitted = fitCosts({ one: sample(1, 1), short, long: sample(16, 512), shortRemap: short });
    for (const [name, value] of Object.entries(truth)) {
      const found = fitted[name as keyof typeof truth];
      // Of one extent alone nobody knows which part is set-up: what an extent takes is in it, too.
      const off = name === "remapSetupUs" ? 16 : name === "copySetupUs" ? 1 : Math.max(0.02, value * 0.08);
      expect(Math.abs(found - value), name).toBeLessThanOrEqual(off);
    }
  });

  it("of huge pages are made of whole ones for a remap, and of single pages for a copy", () => {
    const copied = sample(1024, 1);
    const fitted = fitCosts({
      one: { ...sample(1, 512), copyUs: sample(1, 1).copyUs },
      short: { ...copied, remapUs: null, touchUs: null },
      long: sample(2, 4096),
      shortRemap: sample(16, 512),
    });
    expect(fitted.remapPerPageUs).toBeGreaterThan(0.25);
    expect(fitted.remapPerPageUs).toBeLessThan(0.4);
    expect(fitted.copyPerPageUs).toBeCloseTo(0.09, 2);
  });

  it("are never negative, infinite or no number, however noisy the samples", () => {
    const time = fc.double({ min: 0, max: 1e6, noNaN: true });
    const noisy = (extents: number, runPages: number): fc.Arbitrary<CostSample> =>
      fc.record({
        extents: fc.constant(extents),
        runPages: fc.constant(runPages),
        remapUs: time,
        touchUs: time,
        copyUs: time,
      });
    fc.assert(
      fc.property(noisy(1, 1), noisy(1024, 1), noisy(16, 512), (one, short, long) => {
        expect(ExchangeCostsSchema.safeParse(fitCosts({ one, short, long, shortRemap: short })).success).toBe(
          true,
        );
      }),
    );
  });

  it("of a long run are never above what it took: a slope that noise made steep gives way", () => {
    const short = { ...sample(1024, 1), copyUs: 0 };
    const { copyPerPageUs } = fitCosts({
      one: sample(1, 1),
      short,
      long: sample(16, 512),
      shortRemap: short,
    });
    expect(copyPerPageUs).toBeLessThanOrEqual(sample(16, 512).copyUs / (16 * 512));
  });
});
