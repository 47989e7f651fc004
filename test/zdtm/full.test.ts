/**
 * All of CRIU's own test programs: `make zdtm`. What is known is kept as it comes: MWARP_ZDTM_CONTINUE=1 goes on with it, and
 * MWARP_ZDTM_ONLY=PATTERN runs those, again, whose names fit.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { VmListSchema } from "../../src/protocol/api.js";
import { useLab } from "../support/lab.js";
import { projectRoot } from "../support/mwarp.js";
import { removeBatch, runBatch, type World } from "./batch.js";
import { runPlain } from "./plain.js";
import { buildPrograms } from "./programs.js";
import { type ProgramResult, type ZdtmResults, ZdtmResultsSchema } from "./results.js";
import { type Bench, runSuite } from "./suite.js";
import { makeTree } from "./tree.js";

const unfinished = path.join(projectRoot, "test-results/zdtm-programs.json");
const finished = path.join(projectRoot, "test/zdtm/results.json");

const MOST_TRIES = 2;

const host = useLab({ memory: "1G" });

it("whatever stock CRIU restores, mWarp moves", async () => {
  const { lab } = host;
  const base = path.dirname(lab.rootfs);
  const world: World = { mwarp: lab.mwarp, daemon: lab.daemon, tree: path.join(base, "zdtm"), base };
  const programs = await buildPrograms();
  await makeTree(world.tree, programs);
  const { vms } = await lab.mwarp.json(VmListSchema, ["vm", "ls"]);
  const known = new Map<string, ProgramResult>();
  const only = process.env.MWARP_ZDTM_ONLY ?? "";
  const goesOn = process.env.MWARP_ZDTM_CONTINUE === "1" || only !== "";
  if (goesOn && existsSync(unfinished)) {
    const { programs } = ZdtmResultsSchema.parse(JSON.parse(readFileSync(unfinished, "utf8")));
    for (const result of programs) known.set(result.name, result);
  }
  const save = (): void => {
    const results: ZdtmResults = {
      criu: vms[0]?.agent?.criu ?? "",
      runc: vms[0]?.agent?.runc ?? "",
      kernel: vms[0]?.agent?.kernel ?? "",
      programs: [...known.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    };
    writeFileSync(unfinished, `${JSON.stringify(results, null, 2)}\n`);
  };
  mkdirSync(path.dirname(unfinished), { recursive: true });
  // What goes wrong with the lab itself may be a guest that was too busy to answer: hours are not to be lost for that.
  const run: Bench["run"] = async (names, profile) => {
    for (let tries = 1; ; tries++) {
      try {
        await lab.ready();
        return await runBatch(world, names, profile);
      } catch (error) {
        console.info(`try ${tries} of ${names.join(" ")}: ${String(error)}`);
        const stopped = { outcome: "failed" as const, move: 0, text: String(error) };
        if (tries === MOST_TRIES) return { verdicts: [], stopped, downtimesMs: [] };
      }
    }
  };
  await runSuite(
    {
      run,
      plain: (name, profile, options) => runPlain(world, name, profile, options),
    },
    programs.filter(({ name }) => (only === "" ? !known.has(name) : new RegExp(only).test(name))),
    (result) => {
      known.set(result.name, result);
      console.info(`${result.outcome} ${result.name} ${result.text.slice(0, 200)}`);
      save();
    },
  );
  await removeBatch(world);
  if (programs.every(({ name }) => known.has(name))) copyFileSync(unfinished, finished);
  const lost = [...known.values()].filter(
    ({ outcome, plain }) => (outcome === "failed" || outcome === "refused") && plain?.outcome === "restored",
  );
  expect(lost.map(({ name, outcome, text }) => `${name} ${outcome}: ${text}`)).toEqual([]);
});
