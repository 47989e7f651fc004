import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BenchRecord } from "../../../src/bench/records.js";
import { breakDown } from "../../../src/bench/report/breakdown.js";
import { formatShortTime, formatTime } from "../../../src/bench/report/format.js";
import { gaps } from "../../../src/bench/report/gaps.js";
import { writeHtml, writeMarkdown } from "../../../src/bench/report/index.js";
import { logScale } from "../../../src/bench/report/plots/scales.js";
import { phaseParts } from "../../../src/bench/report/theme.js";
import { longestSilence, standstill } from "../../../src/bench/report/window.js";
import { sortRecords } from "../../../src/bench/results.js";
import { NO_DOWNTIME, NO_STUN } from "../../../src/protocol/migration.js";
import { GIB } from "../../../src/units.js";
import { client, floor, move, report, rounds, run, stall } from "./fixtures.js";
import { madeUpRun } from "./matrix.js";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "mwarp-report-"));
});
afterAll(() => rm(folder, { recursive: true }));

const documents = async (records: readonly BenchRecord[]): Promise<{ html: string; markdown: string }> => {
  const [html, markdown] = [path.join(folder, "new", "report.html"), path.join(folder, "new", "results.md")];
  await writeHtml(records, html);
  await writeMarkdown(records, markdown);
  return { html: await readFile(html, "utf8"), markdown: await readFile(markdown, "utf8") };
};

/** Not `toContain`: its message would hold the whole page. */
const expectIn = (page: string, text: string): void => expect(page.includes(text), text).toBe(true);

describe("the report", () => {
  it("of no records says that nothing was measured", async () => {
    const { html, markdown } = await documents([]);
    expectIn(html, "0 met, 0 not met, 19 not measured");
    expect(html.includes("<svg")).toBe(false);
    expect(markdown).toContain("Not measured: Time against size");
  });

  it("of one run has tables, and no interval that one run cannot give", async () => {
    const { html, markdown } = await documents([
      run(),
      move({ phases: { dump: 1500 } }),
      move({ cell: { method: "cold" }, phases: { dump: 9000 } }),
    ]);
    expectIn(html, "Total time: 4 KiB host pages, guest THP");
    expect(markdown).toContain("1 of 10 runs");
    expect(markdown).toContain("| 1 GiB | 1.50 s |");
    expect(html.includes("NaN")).toBe(false);
  });

  it("says the machine, the command, and what emulation means", async () => {
    const { html, markdown } = await documents([run()]);
    for (const text of [html, markdown]) {
      expect(text).toContain("Made-up CPU, 2 cores");
      expect(text).toContain("Absolute times mean nothing elsewhere");
    }
    expectIn(html, "mwarp bench --out &#39;made up.jsonl&#39;");
    expect((await documents([run({ accelerator: "kvm" })])).html).not.toContain("mean nothing elsewhere");
  });

  it("draws what little there is of a client that heard nothing, or of none", async () => {
    const silent = { at_ms: 0, operations: 0, p50_ms: null, p99_ms: null, max_ms: null };
    const { html } = await documents([
      run(),
      client({ samples: [], operations: 0 }),
      client({ application: "memory", samples: [silent, { ...silent, at_ms: 100 }], operations: 0 }),
    ]);
    expectIn(html, "Throughput: Redis");
    expectIn(html, "Latency: Memory-bound program");
    expect(html.match(/NaN|undefined|Infinity/)).toBeNull();
  });

  it("lists what failed, and whose memory was wrong", async () => {
    const failure: BenchRecord = {
      kind: "failure",
      what: "cold, 4 GiB",
      round: 2,
      code: "MWARP_E_DUMP",
      message: "no room",
    };
    const { html, markdown } = await documents([
      run(),
      failure,
      move({ verified: false }),
      stall({ verified: false }),
      client({ report: report({ report: { outcome: "aborted" } }) }),
    ]);
    for (const text of [html, markdown]) {
      expect(text).toContain("no room");
      expect(text).toContain("memory was not as it should have been");
      expect(text).toContain("4 went wrong");
    }
  });

  it("escapes all that comes from guests and from the file", async () => {
    const evil = `<script>alert("x")</script>|\`\n# x`;
    const { html, markdown } = await documents([
      run({ id: evil, command: ["mwarp", evil], commit: evil }),
      move({
        cell: { method: "cold" },
        report: { commands: [{ vm: evil, argv: ["criu", evil] }], from: evil },
      }),
      client({ client: `# ${evil}` }),
      { kind: "failure", what: evil, round: 0, code: evil, message: evil },
    ]);
    expect(html.includes("<script")).toBe(false);
    expectIn(html, "&lt;script&gt;");
    const prose = markdown.split("\n").filter((line) => !line.startsWith("    "));
    expect(prose.join("\n")).not.toContain("<script");
    expect(prose.filter((line) => line.startsWith("# "))).toEqual(["# Results"]);
    // A table keeps its columns: no bar of a value is one of the table.
    const row = prose.find((line) => line.includes("script") && line.startsWith("| commit"))!;
    expect(row.replaceAll("\\|", "").split("|")).toHaveLength(4);
  });

  it("of a whole run draws every section and refers to nothing outside", async () => {
    const { html, markdown } = await documents(madeUpRun(2));
    for (const title of [
      "Time against size",
      "Where the time goes",
      "The stun",
      "Applications around the move",
      "Containers that write",
      "Many processes",
      "What it costs the host",
      "Remap or copy",
    ]) {
      expectIn(html, `>${title}</h2>`);
      expect(markdown).toContain(`## ${title}`);
    }
    expectIn(html, "vm-a: criu dump --tree 7");
    expect(html.match(/<svg/g)!.length).toBeGreaterThan(30);
    expect(html.match(/(?:src|href)="(?!#)/)).toBeNull();
    expect(html.match(/url\((?!#)/)).toBeNull();
    expect(html.match(/NaN|undefined|Infinity/)).toBeNull();
    expect(markdown.match(/NaN|undefined|Infinity/)).toBeNull();
    // Two drawings must not take each other's clip paths: one of them is hidden.
    const ids = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
  }, 60_000);
});

describe("the phase breakdown", () => {
  it("adds up to the total, with what no phase claims", () => {
    const runs = rounds(7, (round) =>
      move({ round, phases: { dump: 100 + round, restore: 7 * round, retire: 3.25 }, between: 1.5 }),
    );
    const { total, parts } = breakDown("warp", runs);
    const sum = phaseParts.reduce((all, part) => all + parts[part], 0);
    expect(sum).toBeCloseTo(total, 9);
    expect(parts.between).toBeCloseTo(1.5, 9);
    expect(parts.dump).toBe(103);
  });

  it("goes by the moves that went well", () => {
    const { migrations } = sortRecords([
      move({ phases: { dump: 1 } }),
      move({ verified: false, phases: { dump: 99 } }),
    ]);
    expect(breakDown("warp", migrations).total).toBe(1);
  });
});

describe("the parts of the stun", () => {
  it("are means that add up, of the runs that say them", async () => {
    const { markdown } = await documents([
      ...[60, 100].map((stun, round) => move({ round, stun })),
      move({
        round: 2,
        stun: 9000,
        report: { stun_ms: { times: 1, source: 1, destination: 9000, parts: NO_STUN } },
      }),
    ]);
    const table = markdown.slice(markdown.indexOf("### Parts of the stun: 1 GiB"));
    expect(table).toMatch(/\| walk \| 40\.0 ms \|\n\| plan \| 0 ms \|\n\| exchange \| 40\.0 ms \|/);
    expect(table).toMatch(/\| together \| 80\.0 ms \|\n\| runs \| 2 \|/);
  });
});

describe("the parts of the downtime", () => {
  const at = (size: number, criu: number, populate: number, round: number): BenchRecord => {
    const downtime_parts = { ...NO_DOWNTIME, criu, populate };
    const time_ms = {
      total: 900,
      downtime: criu + populate,
      downtime_parts,
      phases: report().time_ms.phases,
    };
    return move({ cell: { size }, round, report: { time_ms } });
  };

  it("are means by size, with the slope of each, of the runs that say them", async () => {
    const { markdown } = await documents([
      at(GIB, 100, 400, 0),
      at(GIB, 140, 600, 1),
      at(2 * GIB, 120, 1000, 0),
      move({ cell: { method: "postcopy" }, downtime: 9000 }),
    ]);
    const table = markdown.slice(markdown.indexOf("### Downtime by who is waited for"));
    expect(table).toMatch(/\| 1 GiB \| 120 ms \| 0 ms \| 0 ms \| 500 ms \| 0 ms \| 0 ms \| 620 ms \| 2 \|/);
    expect(table).toMatch(/\| per GiB \| 0 ms \| 0 ms \| 0 ms \| 500 ms \| 0 ms \| 0 ms \| 500 ms \| 3 \|/);
    expect(markdown.match(/### Downtime by who is waited for/g)).toHaveLength(1);
  });

  it("has a histogram of the page stalls for each kind of container, and the percentiles beside it", async () => {
    const { html, markdown } = await documents([
      run(),
      ...[1, 2, 3].map((slow, round) => stall({ round, slow })),
      stall({ cell: { method: "postcopy" }, slow: 40 }),
    ]);
    expect(html.match(/<svg/g)).toHaveLength(2);
    expect(html.match(/NaN|undefined|Infinity/)).toBeNull();
    const table = markdown.slice(markdown.indexOf("### Page stalls: 256 MiB, 4 KiB host pages, guest THP"));
    expect(table).toContain(
      "| warp | 1.00 µs (1.00–1.00 µs) | 1.00 µs (1.00–1.00 µs) | 2.00 ms (1.50–2.50 ms) | 2.00 ms (1.50–2.50 ms) | 2.00 ms (1.50–2.50 ms) | 32.0 ms (24.0–40.0 ms) | 3 |",
    );
    expect(table).toContain("| postcopy | 1.00 µs | 1.00 µs | 40.0 ms | 40.0 ms | 40.0 ms | 640 ms | 1 |");
  });

  it("sets every size and method beside the floor of VMs that are backed alike", async () => {
    const { markdown } = await documents([
      run(),
      ...[400, 500, 600].map((ms, round) => floor(ms, round)),
      floor(7, 0, "hugetlb"),
      move({ downtime: 700 }),
      move({ cell: { size: GIB / 4 }, downtime: 600 }),
      move({ cell: { method: "postcopy" }, downtime: 1000 }),
    ]);
    const table = markdown.slice(markdown.indexOf("### Downtime against the floor"));
    expect(
      table
        .split("\n")
        .filter((line) => line.startsWith("| "))
        .slice(0, 6),
    ).toEqual([
      "| method | size | downtime | over the floor | runs |",
      "| --- | --- | --: | --: | --: |",
      "| the floor | 1 MiB | 500 ms (450–550 ms) | 1 | 3 |",
      "| warp | 256 MiB | 600 ms | 1.20 | 1 |",
      "| warp | 1 GiB | 700 ms | 1.40 | 1 |",
      "| postcopy | 1 GiB | 1.00 s | 2.00 | 1 |",
    ]);
    expect(markdown.match(/### Downtime against the floor/g)).toHaveLength(1);
  });
});

describe("a bar on time that is not reached", () => {
  const records = (dump: number): BenchRecord[] =>
    rounds(10, (round) => [
      move({ round, phases: { dump, populate: 200 }, downtime: 100 }),
      move({ cell: { method: "cold" }, round, phases: { dump: 2400 }, downtime: 2000 }),
    ]).flat();

  it("is explained by what runc and CRIU leave of it", () => {
    expect(gaps(sortRecords(records(150)))).toEqual([
      "total time, 1 GiB, against cold (4 KiB host pages, guest THP): cold has a total of 2.40 s, so the bar is 300 ms; " +
        "warp has 350 ms. Its dump and restore, done by runc and CRIU, take 150 ms, which leaves 150 ms for all other phases.",
    ]);
    expect(gaps(sortRecords(records(400)))[0]).toContain("cannot be reached unless these two get shorter");
  });

  it("is none when it is reached or was not measured", () => {
    expect(gaps(sortRecords(records(50)))).toEqual([]);
    expect(gaps(sortRecords([move({ phases: { dump: 1000 } })]))).toEqual([]);
    expect(gaps(sortRecords([]))).toEqual([]);
  });
});

describe("the standstill", () => {
  it("ends where the last phase begins, and the stun where resume does", () => {
    const phases = { preflight: 100, dump: 300, warp: 50, resume: 20, retire: 30 };
    expect(standstill({ report: report({ phases, downtime: 370, stun: 40 }) })).toEqual({
      downtime: { from: 100, to: 470 },
      stun: { from: 410, to: 450 },
      end: 500,
    });
    expect(standstill({ report: report({ phases, stun: 0 }) }).stun).toBeNull();
  });

  it("is the longest row of intervals without an operation", () => {
    const samples = [5, 0, 0, 3, 0, 0, 0, 9].map((operations, index) => ({
      at_ms: index * 100,
      operations,
      p50_ms: null,
      p99_ms: null,
      max_ms: null,
    }));
    expect(longestSilence(client({ samples }))).toBe(300);
  });
});

describe("numbers", () => {
  it("have three digits", () => {
    expect([0, 0.4123, 9.876, 41.23, 412.3, 4123, 250_400].map(formatTime)).toEqual([
      "0 ms",
      "0.412 ms",
      "9.88 ms",
      "41.2 ms",
      "412 ms",
      "4.12 s",
      "250 s",
    ]);
  });

  it("go down to nanoseconds where single accesses are meant", () => {
    expect([0.000448, 0.0412, 0.99949, 1, 4123].map(formatShortTime)).toEqual([
      ...["448 ns", "41.2 µs", "999 µs", "1.00 ms", "4.12 s"],
    ]);
  });

  it("get round ticks around them on a logarithmic axis", () => {
    expect(logScale([3, 180], 7).values).toEqual([2, 5, 10, 20, 50, 100, 200]);
    expect(logScale([0.3, 18_000], 7)).toEqual({
      scale: { type: "log", domain: [0.2, 20_000], nice: false },
      values: [1, 10, 100, 1000, 10_000],
    });
    expect(logScale([5, 5], 7).values).toEqual([5, 10]);
    expect(logScale([0, 0.0003], 7).scale.domain).toEqual([0.0002, 0.0005]);
    expect(logScale([], 7).values).toEqual([1, 2, 5, 10]);
  });
});
