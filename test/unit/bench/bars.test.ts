import { describe, expect, it } from "vitest";
import { dirtiedShare } from "../../../src/bench/bars/times.js";
import { bars, judge, verdictOf } from "../../../src/bench/bars.js";
import type { BenchRecord } from "../../../src/bench/records.js";
import { formatLimit } from "../../../src/bench/report/format.js";
import { sortRecords } from "../../../src/bench/results.js";
import { GIB, MIB } from "../../../src/units.js";
import { client, floor, type MoveFacts, move, network, planner, rounds, stall } from "./fixtures.js";

const judged = (figure: RegExp, records: readonly BenchRecord[]) => {
  const bar = bars.find((one) => figure.test(one.figure))!;
  return judge(bar, sortRecords(records));
};
/** Ten moves by each method: the total is its dump. */
const moves = (facts: MoveFacts & { readonly time: number }, count = 10): BenchRecord[] =>
  rounds(count, (round) =>
    move({ ...facts, round, phases: { dump: facts.time + round / 1000 }, downtime: facts.time }),
  );
const by = (method: "warp" | "cold" | "precopy" | "postcopy", time: number, count = 10): BenchRecord[] =>
  moves({ cell: { method }, time }, count);

describe("every bar", () => {
  it.each(bars)("says that it was not measured when there are no records: $figure", (bar) => {
    const findings = judge(bar, sortRecords([]));
    expect(findings).toHaveLength(1);
    expect(verdictOf(findings)).toBe("not measured");
  });
});

describe("downtime against the size and against post-copy", () => {
  const at = (method: "warp" | "postcopy", size: number, time: number): BenchRecord[] =>
    moves({ cell: { method, size }, time }, 15);

  it("is one size over the other, and one method over the other", () => {
    const records = [
      ...at("warp", GIB, 300),
      ...at("warp", 16 * MIB, 200),
      ...at("postcopy", GIB, 400),
      ...at("postcopy", 16 * MIB, 100),
    ];
    expect(judged(/downtime.*16 MiB, eager$/, records)[0]).toMatchObject({ verdict: "met" });
    expect(judged(/1 GiB, against post-copy/, records)[0]).toMatchObject({ verdict: "met" });
    const [small] = judged(/16 MiB, against post-copy/, records);
    expect([small.verdict, small.estimate?.value]).toEqual(["not met", 2]);
  });

  it("is that of either strategy where both were measured, and staged for everything else", () => {
    const told = (strategy: "eager" | "staged", size: number, time: number): BenchRecord[] =>
      moves({ cell: { strategy, size }, time }, 15);
    const records = [
      ...told("eager", GIB, 400),
      ...told("eager", 16 * MIB, 200),
      ...told("staged", GIB, 220),
      ...told("staged", 16 * MIB, 200),
      ...at("postcopy", GIB, 400),
    ];
    const value = (figure: RegExp): number | undefined => judged(figure, records)[0]!.estimate?.value;
    expect(value(/16 MiB, eager$/)).toBeCloseTo(2);
    expect(value(/16 MiB, staged$/)).toBeCloseTo(1.1);
    expect(value(/1 GiB, against post-copy/)).toBeCloseTo(0.55);
    expect(value(/^total time.*staged against eager/)).toBeCloseTo(0.55);
    expect(judged(/16 MiB, staged$/, at("warp", GIB, 1))).toMatchObject([{ estimate: null }]);
  });

  it("shows a limit that is no fraction as it is", () => {
    expect(formatLimit(bars.find((one) => /1 GiB, against post-copy/.test(one.figure))!)).toBe(
      "at most 0.80",
    );
    expect(formatLimit(bars.find((one) => /total.*cold/.test(one.figure))!)).toBe("at most 1/8");
  });

  it("decides nothing with ten runs, and says nothing of a size that was not measured", () => {
    const ten = [...by("warp", 300), ...moves({ cell: { size: 16 * MIB }, time: 250 })];
    expect(judged(/downtime.*16 MiB, eager$/, ten)[0]).toMatchObject({ verdict: "not measured" });
    expect(judged(/downtime.*16 MiB, eager$/, by("warp", 300, 15))).toMatchObject([{ estimate: null }]);
  });
});

describe("downtime against the floor", () => {
  const floors = (time: number, count = 15): BenchRecord[] =>
    rounds(count, (round) => floor(time + round / 1000, round));
  const figure = /against stock runc on 1 MiB/;

  it("is that of 1 GiB over the time in which the small process did not run", () => {
    const warps = by("warp", 1200, 15);
    const [met] = judged(figure, [...warps, ...floors(1000)]);
    expect([met.verdict, met.setting]).toEqual(["met", "4 KiB host pages, guest THP"]);
    expect(met.estimate?.value).toBeCloseTo(1.2, 3);
    expect(judged(figure, [...warps, ...floors(900)])[0].verdict).toBe("not met");
  });

  it("compares VMs that are backed alike, in rounds in which both were measured", () => {
    expect(judged(figure, [...by("warp", 1200, 15), floor(1, 0, "hugetlb")])).toMatchObject([
      { verdict: "not measured", estimate: null },
    ]);
    expect(judged(figure, [...by("warp", 1200, 15), ...floors(1000, 14)])[0]).toMatchObject({
      verdict: "not measured",
      note: "14 of 15 runs",
    });
  });

  it("is of no other size and no other method", () => {
    const others = [...by("postcopy", 1, 15), ...moves({ cell: { size: 16 * MIB }, time: 1 }, 15)];
    expect(judged(figure, [...others, ...floors(1000)])).toMatchObject([{ estimate: null }]);
  });
});

describe("page stalls against post-copy", () => {
  const figure = /^page stalls/;
  const stalls = (method: "warp" | "postcopy", slow: number, count = 10): BenchRecord[] =>
    rounds(count, (round) => stall({ cell: { method }, round, slow }));

  it("compares what 99 % of the pages take, and says it", () => {
    const [finding] = judged(figure, [...stalls("warp", 2), ...stalls("postcopy", 4)]);
    expect(finding).toMatchObject({
      verdict: "met",
      setting: "256 MiB, 4 KiB host pages, guest THP",
      estimate: { value: 0.5, runs: 10 },
      note: "p99: warp 2.00 ms, postcopy 4.00 ms",
    });
    expect(judged(figure, [...stalls("warp", 2.2), ...stalls("postcopy", 4)])[0].verdict).toBe("not met");
  });

  it("counts no move after which memory was wrong, and none by copying", () => {
    const records = [
      ...stalls("postcopy", 4),
      stall({ verified: false }),
      stall({ cell: { backend: "copy" } }),
    ];
    expect(judged(figure, records)[0]).toMatchObject({ estimate: null, note: "no runs of warp" });
  });

  it("compares no container with one of another size, and decides nothing with few runs", () => {
    const other = rounds(10, (round) => stall({ cell: { method: "postcopy", size: GIB }, round }));
    const found = judged(figure, [...stalls("warp", 1), ...other]);
    expect(found.map(({ estimate }) => estimate)).toEqual([null, null]);
    expect(judged(figure, [...stalls("warp", 1, 5), ...stalls("postcopy", 4, 5)])[0]).toMatchObject({
      verdict: "not measured",
      note: "5 of 10 runs; p99: warp 1.00 ms, postcopy 4.00 ms",
    });
  });

  it("is no move of a container that stands still otherwise: those bars do not count it", () => {
    expect(judged(/^downtime, 1 GiB, against cold/, stalls("warp", 1))).toMatchObject([{ estimate: null }]);
  });
});

describe("total time against cold", () => {
  it("is met by an eighth", () => {
    const [finding] = judged(/total.*cold/, [...by("warp", 100), ...by("cold", 801)]);
    expect(finding).toMatchObject({ verdict: "met", estimate: { runs: 10 }, note: null });
    expect(finding.estimate?.value).toBeCloseTo(0.125, 3);
  });

  it("is not met by more", () => {
    expect(judged(/total.*cold/, [...by("warp", 101), ...by("cold", 800)])[0].verdict).toBe("not met");
  });

  it("decides nothing with fewer than ten runs, but shows what they gave", () => {
    const [finding] = judged(/total.*cold/, [...by("warp", 1, 3), ...by("cold", 100, 3)]);
    expect(finding).toMatchObject({ verdict: "not measured", note: "3 of 10 runs", estimate: { runs: 3 } });
  });

  it("names the method that is missing", () => {
    expect(judged(/total.*cold/, by("warp", 1))[0]).toMatchObject({
      verdict: "not measured",
      estimate: null,
      note: "no runs of cold",
    });
  });

  it("leaves out moves that failed or spoiled memory, other sizes, writers and other back ends", () => {
    const noise = [
      ...moves({ cell: { method: "cold" }, time: 1, verified: false }),
      ...moves({ cell: { method: "cold" }, time: 1, report: { outcome: "aborted" } }),
      ...moves({ cell: { method: "cold", size: 16 * MIB }, time: 1 }),
      ...moves({ cell: { method: "cold", write_share: 1 }, time: 1 }),
      ...moves({ cell: { method: "cold", processes: 4 }, time: 1 }),
      ...moves({ cell: { backend: "copy" }, time: 5000 }),
    ];
    const [finding] = judged(/total.*cold/, [...by("warp", 100), ...by("cold", 1000), ...noise]);
    expect(finding.estimate?.value).toBeCloseTo(0.1, 3);
  });

  it("judges each setting by itself, and all must reach it", () => {
    const huge = { backing: "hugetlb" } as const;
    const findings = judged(/total.*cold/, [
      ...by("warp", 100),
      ...by("cold", 1000),
      ...moves({ cell: { ...huge, method: "warp" }, time: 500 }),
      ...moves({ cell: { ...huge, method: "cold" }, time: 1000 }),
    ]);
    expect(findings.map(({ verdict }) => verdict)).toEqual(["met", "not met"]);
    expect(verdictOf(findings)).toBe("not met");
  });

  it("leaves out settings in which only warp was measured, when there are others", () => {
    const alone = moves({ cell: { backing: "thp" }, time: 100 });
    expect(judged(/total.*cold/, [...by("warp", 100), ...by("cold", 1000), ...alone])).toHaveLength(1);
  });

  it("says when the interval goes past a bar that the median reaches", () => {
    const times = [60, 60, 60, 60, 60, 60, 900, 900, 900, 60];
    const warp = times.map((dump, round) => move({ round, phases: { dump } }));
    const [finding] = judged(/total.*cold/, [...warp, ...by("cold", 1000)]);
    expect(finding).toMatchObject({ verdict: "met", note: "the interval goes past the bar" });
  });
});

it("takes the best of the baselines by its median", () => {
  const records = [...by("warp", 100), ...by("cold", 900), ...by("precopy", 700), ...by("postcopy", 500)];
  expect(judged(/best of the three/, records)[0].estimate?.value).toBeCloseTo(0.2, 3);
});

describe("downtime against pre-copy with a writer", () => {
  const writer = { method: "precopy", write_share: 0.5 } as const;
  const dirty = (share: number): MoveFacts => ({
    rounds: [
      { bytes: GIB, time_ms: 1000 },
      { bytes: share * GIB, time_ms: 500 },
    ],
    memory: { network_bytes: (1 + 2 * share) * GIB },
  });
  const warp = moves({ cell: { write_share: 0.5 }, time: 100 });

  it("counts what the rounds and the dump after them had to send again", () => {
    expect(dirtiedShare(move({ cell: writer, ...dirty(0.6) }))).toBeCloseTo(0.6, 9);
    const calmAtLast = { ...dirty(0.6), memory: { network_bytes: 1.7 * GIB } };
    expect(dirtiedShare(move({ cell: writer, ...calmAtLast }))).toBeCloseTo(0.1, 9);
    expect(dirtiedShare(move({ cell: writer }))).toBeNull();
  });

  it("is met by a fifth of a writer that is heavy enough", () => {
    const [finding] = judged(/pre-copy with a writer/, [
      ...warp,
      ...moves({ cell: writer, ...dirty(0.6), time: 600 }),
    ]);
    expect(finding).toMatchObject({ verdict: "met", note: "least dirtied between iterations: 60 %" });
  });

  it("is not measured by a writer that is too light, and says how light", () => {
    const [finding] = judged(/pre-copy with a writer/, [
      ...warp,
      ...moves({ cell: writer, ...dirty(0.3), time: 600 }),
    ]);
    expect(finding).toMatchObject({
      verdict: "not measured",
      note: "least dirtied between iterations: 30 %",
    });
  });
});

describe("the stun", () => {
  const cell = { backing: "hugetlb", pages: "thp" } as const;
  const auto = rounds(10, (round) => move({ cell, round, stun: 20, firstTouch: 10 }));
  const copy = rounds(10, (round) =>
    move({ cell: { ...cell, backend: "copy" }, round, stun: 100, firstTouch: 10 }),
  );

  it("is compared with copying the same memory, on hugetlb with guest THP only", () => {
    expect(judged(/^stun, /, [...auto, ...copy])[0]).toMatchObject({
      verdict: "met",
      estimate: { value: 0.2 },
    });
    expect(
      judged(
        /^stun, /,
        rounds(10, (round) => move({ round, stun: 1 })),
      )[0].estimate,
    ).toBeNull();
  });

  it("is compared together with the first touch", () => {
    expect(judged(/first touch/, [...auto, ...copy])[0].estimate?.value).toBeCloseTo(30 / 110, 9);
  });

  it("does not count runs without a touch as touched in no time", () => {
    const untouched = rounds(10, (round) => move({ cell, round, stun: 20 }));
    expect(judged(/first touch/, [...untouched, ...copy])[0].verdict).toBe("not measured");
  });
});

describe("Redis throughput lost", () => {
  const redis = (method: "warp" | "precopy", operations: (round: number) => number) =>
    rounds(10, (round) => client({ method, round, operations: operations(round) }));

  it("is met when a fifth less is lost", () => {
    const [finding] = judged(/Redis/, [...redis("warp", () => 940), ...redis("precopy", () => 900)]);
    expect(finding).toMatchObject({ verdict: "met", note: "lost: warp 6.0 %, precopy 10.0 %" });
    expect(finding.estimate?.value).toBeCloseTo(0.4, 9);
  });

  it("is not met when less than a fifth less is lost", () => {
    expect(judged(/Redis/, [...redis("warp", () => 915), ...redis("precopy", () => 900)])[0].verdict).toBe(
      "not met",
    );
  });

  it("is not met when the interval holds 0", () => {
    const noisy = redis("warp", (round) => (round % 2 === 0 ? 700 : 980));
    const [finding] = judged(/Redis/, [...noisy, ...redis("precopy", () => 790)]);
    expect(finding).toMatchObject({
      verdict: "not met",
      note: expect.stringContaining("does not exclude 0"),
    });
  });

  it("is not computed when pre-copy lost nothing", () => {
    expect(
      judged(/Redis/, [...redis("warp", () => 990), ...redis("precopy", () => 1000)])[0].estimate,
    ).toBeNull();
  });
});

describe("memory", () => {
  it("counts all that crossed a network or channel, and lists what was not remapped", () => {
    const facts = {
      memory: {
        network_bytes: 0,
        channel_bytes: GIB / 200,
        remapped_pages: 262_000,
        copied_pages: 100,
        shared_pages: 9,
      },
    };
    const [finding] = judged(
      /bytes over/,
      rounds(10, (round) => move({ ...facts, round })),
    );
    expect(finding).toMatchObject({ verdict: "met", estimate: { value: 0.005 } });
    expect(finding.note).toContain("262000 remapped, 100 copied");
    expect(finding.note).toContain("9 of which shared");
    expect(finding.note).toContain("44 sent as bytes");
  });

  it("allows a twentieth of 1 GiB more than before", () => {
    const at = (peak: number) =>
      judged(
        /peak memory/,
        rounds(10, (round) => move({ round, peak })),
      )[0].verdict;
    expect(at(4 * GIB + 51 * MIB)).toBe("met");
    expect(at(4 * GIB + 52 * MIB)).toBe("not met");
  });
});

describe("the planner", () => {
  it("is never predicted above the best single way", () => {
    const fine = rounds(3, (round) => planner({ round, auto: 1, remap: 1, copy: 2 }));
    expect(judged(/predicted/, fine)[0]).toMatchObject({ verdict: "met", estimate: { value: 1 } });
    expect(judged(/predicted/, [...fine, planner({ auto: 1.01 })])[0].verdict).toBe("not met");
  });

  it("is measured by layout against the better way, with twenty runs", () => {
    const layout = (name: string, auto: number, count = 20) =>
      rounds(count, (round) => planner({ round, layout: name, auto, remap: 2, copy: 1 }));
    const findings = judged(/planner, measured/, [
      ...layout("a", 1.2),
      ...layout("b", 1.3),
      ...layout("c", 1, 19),
    ]);
    expect(findings.map(({ verdict }) => verdict)).toEqual(["met", "not met", "not measured"]);
  });

  it("is measured against copying alone where all cannot be remapped", () => {
    const records = rounds(20, (round) => planner({ round, auto: 1, remap: null, copy: 1 }));
    expect(judged(/planner, measured/, records)[0].verdict).toBe("met");
  });
});

describe("the rate of the baselines", () => {
  const raw = rounds(10, (round) => network(100, round));

  it("is that of the phase which carries the pages, over raw TCP", () => {
    const records = rounds(10, (round) => [
      move({ cell: { method: "cold" }, round, phases: { dump: GIB / MIB / 0.08 } }),
      move({
        cell: { method: "precopy" },
        round,
        phases: { prepare: 1 },
        rounds: [{ bytes: GIB, time_ms: GIB / MIB / 0.06 }],
      }),
      move({ cell: { method: "postcopy" }, round, phases: { retire: GIB / MIB / 0.09 } }),
    ]).flat();
    const findings = judged(/rate of pages/, [...raw, ...records]);
    expect(findings.map(({ verdict }) => verdict)).toEqual(["met", "not met", "met"]);
    expect(findings.map(({ note }) => note)).toEqual([
      "80 MiB/s of 100 MiB/s",
      "60 MiB/s of 100 MiB/s",
      "90 MiB/s of 100 MiB/s",
    ]);
  });

  it("is not measured without raw TCP", () => {
    expect(judged(/rate of pages/, by("cold", 100))[0]).toMatchObject({
      verdict: "not measured",
      note: "raw TCP was not measured",
    });
  });
});
