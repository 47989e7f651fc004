import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { releaseLeftPages } from "../../../src/bench/huge-pages.js";
import { placeBeside } from "../../../src/bench/lab.js";

let base: string;
beforeEach(() => {
  base = mkdtempSync(path.join(tmpdir(), "mwarp-pages-"));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

describe("huge pages that a benchmark reserved", () => {
  it("are none where it has left no note, and where its note was cut off before it reserved any", async () => {
    const place = placeBeside(path.join(base, "run"), path.join(base, "state"));
    await releaseLeftPages(place);
    mkdirSync(place.stateDir);
    const note = path.join(place.stateDir, "hugepages.json");
    writeFileSync(note, '{"pages":256,"bef');
    await releaseLeftPages(place);
    expect(existsSync(note)).toBe(false);
  });
});

describe("the place of a benchmark", () => {
  it("is beside the user's own, with a name that follows from it and fits a network namespace", () => {
    const place = placeBeside("/run/mwarp", "/var/lib/mwarp");
    expect(place).toMatchObject({ runDir: "/run/mwarp-bench", stateDir: "/var/lib/mwarp-bench" });
    expect(place.name).toMatch(/^bench-[0-9a-f]{8}$/);
    expect(placeBeside("/tmp/other", "/tmp/state").name).not.toBe(place.name);
  });
});
