import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { resolveOptions } from "../../../src/lab/options.js";
import {
  type LabState,
  readLabState,
  readResources,
  removeLabState,
  writeLabState,
} from "../../../src/lab/state.js";

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "mwarp-lab-"));
  file = join(directory, "run", "lab.json");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const state: LabState = {
  version: 1,
  phase: "starting",
  createdAt: "2026-01-01T00:00:00.000Z",
  settings: resolveOptions({}),
  image: "abc",
  accelerator: { kind: "tcg", reason: "asked for" },
  backing: { kind: "hugetlb", reason: "" },
  resources: [
    { kind: "netns", name: "mwarp", mounted: true },
    { kind: "hugepages", pages: 5, before: 1, reserved: true },
    { kind: "vm", name: "vm-a", directory: "/run/mwarp/vms/vm-a" },
  ],
  vms: [],
};

test("what is written is read again, and nothing else is left beside it", () => {
  expect(readLabState(file)).toBeNull();
  expect(readResources(file)).toEqual([]);
  writeLabState(state, file);
  writeLabState({ ...state, phase: "up" }, file);
  expect(readLabState(file)).toEqual({ ...state, phase: "up" });
  expect(readResources(file)).toEqual(state.resources);
  expect(readdirSync(join(directory, "run"))).toEqual(["lab.json"]);
  removeLabState(file);
  removeLabState(file);
  expect(readLabState(file)).toBeNull();
});

test("of a file that another version wrote, the resources can still be given back", () => {
  const foreign = {
    ...state,
    version: 2,
    settings: null,
    resources: [...state.resources, { kind: "satellite" }],
  };
  writeLabState(state, file);
  writeFileSync(file, JSON.stringify(foreign));
  expect(readLabState(file)).toBe("damaged");
  expect(readResources(file)).toEqual(state.resources);
});

test("a file that is no JSON is damaged, not absent", () => {
  writeLabState(state, file);
  writeFileSync(file, '{"version":1,"phase":');
  expect(readLabState(file)).toBe("damaged");
  expect(readResources(file)).toEqual([]);
});
