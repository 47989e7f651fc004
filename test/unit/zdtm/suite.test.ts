/** How CRIU's test programs are put together, and what the suite makes of what comes of it. */
import { describe, expect, it } from "vitest";
import type { BatchResult, Profile, Verdict } from "../../zdtm/batch.js";
import { parseDescription } from "../../zdtm/desc.js";
import type { Program } from "../../zdtm/programs.js";
import type { ProgramResult } from "../../zdtm/results.js";
import { type Bench, runSuite } from "../../zdtm/suite.js";

const program = (name: string, description = "{}", file: string | null = `/${name}`): Program => ({
  name,
  description: parseDescription(description),
  arguments: [],
  file,
});

type Behaviour = (names: readonly string[], profile: Profile) => Partial<BatchResult>;
const stopped = (outcome: "refused" | "failed") => ({ outcome, move: 0, text: "why" });

/** Programs pass unless `behaviour` says otherwise. */
async function run(programs: readonly Program[], behaviour: Behaviour) {
  const batches: string[] = [];
  const results = new Map<string, ProgramResult>();
  const bench: Bench = {
    run: async (names, profile) => {
      batches.push(`${profile}: ${names.join(" ")}`);
      const special = behaviour(names, profile);
      const said = special.verdicts ?? [];
      const passed = names
        .filter((name) => !said.some((verdict) => verdict.name === name))
        .map((name): Verdict => ({ name, outcome: "passed", text: "" }));
      const all = special.stopped == null ? [...said, ...passed] : said;
      return { stopped: null, downtimesMs: [], ...special, verdicts: all };
    },
    plain: async (name, profile, options) => ({
      outcome: "restored",
      text: [name, profile, ...options].join(),
    }),
  };
  await runSuite(bench, programs, (result) => results.set(result.name, result));
  return { batches, results };
}

const verdict = (name: string, outcome: Verdict["outcome"]): Verdict => ({
  name,
  outcome,
  text: "its words",
});
const named = (...names: string[]): Program[] => names.map((name) => program(name));

describe("the suite of CRIU's test programs", () => {
  it("puts eight of them into a container, and those alone that CRIU is to refuse", async () => {
    const programs = [...named(..."abcdefghij"), program("r", "{'flags': 'crfail'}")];
    const { batches, results } = await run(programs, () => ({}));
    expect(batches).toEqual(["ordinary: a b c d e f g h", "ordinary: i j", "ordinary: r"]);
    expect([...results.values()].every(({ outcome }) => outcome === "moved")).toBe(true);
  });

  it("finds by halves the one that stops a move, and asks stock runc and CRIU about that alone", async () => {
    const { batches, results } = await run(named(..."abcd"), (names) =>
      names.includes("c") ? { stopped: stopped("failed") } : {},
    );
    expect(batches.map((batch) => batch.slice("ordinary: ".length))).toEqual([
      "a b c d",
      "a b",
      "c d",
      "c",
      "d",
    ]);
    expect([...results.values()].map(({ name, outcome }) => name + outcome[0])).toEqual([
      "am",
      "bm",
      "cf",
      "dm",
    ]);
    expect(results.get("c")).toMatchObject({
      text: "why",
      plain: { outcome: "restored", text: "c,ordinary" },
    });
    expect(results.get("d")?.plain).toBeNull();
  });

  it("lets one that fails among others try again by itself", async () => {
    const disturbed = await run(named("a", "b"), (names) =>
      names.length > 1 ? { verdicts: [verdict("b", "failed")] } : {},
    );
    expect(disturbed.results.get("b")?.outcome).toBe("moved");
    const wrong = await run(named("a", "b"), (names) =>
      names.includes("b") ? { verdicts: [verdict("b", "failed")] } : {},
    );
    expect(wrong.results.get("b")).toMatchObject({ outcome: "failed", text: "verification: its words" });
    expect(wrong.results.get("a")?.outcome).toBe("moved");
  });

  it("gives a container that may do more to those that need it, and says so", async () => {
    const programs = [...named("a", "b"), program("s", "{'flags': 'suid', 'opts': '--link-remap'}")];
    const { batches, results } = await run(programs, (names, profile) => {
      if (profile === "privileged") return { stopped: stopped("refused") };
      return { verdicts: names.filter((name) => name === "s").map((name) => verdict(name, "unstarted")) };
    });
    expect(batches).toEqual(["ordinary: a b s", "privileged: s"]);
    expect(results.get("s")).toEqual({
      name: "s",
      outcome: "refused",
      text: "why",
      profile: "privileged",
      plain: { outcome: "restored", text: "s,privileged,--link-remap" },
    });
  });

  it("finds one unfit that does not start in any container, alone neither", async () => {
    const { batches, results } = await run(named("a", "b"), (names) => ({
      verdicts: names.filter((name) => name === "b").map((name) => verdict(name, "unstarted")),
    }));
    expect(batches).toEqual(["ordinary: a b", "ordinary: b", "privileged: b"]);
    expect(results.get("b")).toMatchObject({ outcome: "unfit", plain: null });
    expect(results.get("b")?.text).toContain("its words");
  });

  it("runs none that is for another processor, cannot be built, or is left out by CRIU's own runner", async () => {
    const programs = [
      program("arm", "{'arch': 'aarch64 arm'}"),
      program("dev", "{}", null),
      program("left", "{'flags': 'noauto suid'}"),
    ];
    const { batches, results } = await run(programs, () => ({}));
    expect(batches).toEqual([]);
    expect([...results.values()].map(({ outcome, text }) => `${outcome}: ${text}`)).toEqual([
      "unfit: for aarch64, arm only",
      "unfit: needs development packages that nothing else here needs",
      "unfit: left out by CRIU's own runner (noauto)",
    ]);
  });
});

describe("a description of a test program", () => {
  it("is read as CRIU's authors write it", () => {
    const text = `# This one is special
{ 'flavor': 'ns uns', 'deps': ['/bin/sh', '/sbin/ip|/bin/ip'],
  # why
  'opts': '--tcp-established', 'dopts': '--ghost-limit 8M', 'flags': 'suid crfail', }`;
    expect(parseDescription(text)).toEqual({
      flags: new Set(["suid", "crfail"]),
      flavors: new Set(["ns", "uns"]),
      architectures: null,
      options: ["--tcp-established", "--ghost-limit", "8M"],
    });
  });

  it("that is a program is left out", () => {
    expect(parseDescription('os.getenv("X") and {} or {}').flags).toEqual(new Set(["noauto"]));
  });

  it("that cannot be read is an error", () => {
    expect(() => parseDescription("{'flags': [1]}")).toThrow(/no description/);
  });
});
