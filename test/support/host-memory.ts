/** Who holds which page of the VMs' memory files (invariants I2 and I4), asked of the VMMs' own maps. */
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { labFile } from "../../src/paths.js";
import { BackingReader, fileKey } from "../../src/vm/backing.js";
import { discoverMemory } from "../../src/vm/layout.js";
import { QmpClient } from "../../src/vm/qmp.js";
import type { TestLab } from "./lab.js";

interface Held {
  readonly vm: string;
  readonly file: string;
  readonly start: number;
  readonly end: number;
}

/**
 * Fails unless every page of RAM is backed by a page of its own, in the lab's own memory files and no more of those than VMs:
 * nothing is mapped twice, nothing has leaked. Gives each VMM's number of mappings; fails when one is near the limit.
 */
export async function expectOnePagePerPage(lab: TestLab): Promise<Record<string, number>> {
  const state = JSON.parse(readFileSync(labFile(lab.mwarp.env), "utf8")) as {
    vms: { name: string; pid: number; qmpSocket: string }[];
  };
  const held: Held[] = [];
  const mappings: Record<string, number> = {};
  for (const { name, pid, qmpSocket } of state.vms) {
    using qmp = await QmpClient.open(qmpSocket);
    const backing = await discoverMemory(pid, qmp);
    if (backing.kind !== "shared-memfd") throw new Error(`${name}: ${backing.reason}`);
    const ram = new BackingReader(pid, backing.layout).read();
    let bytes = 0;
    for (let piece = 0; piece < ram.count; piece++) {
      const start = ram.offset[piece];
      held.push({
        vm: name,
        file: fileKey(ram.files[ram.file[piece]]),
        start,
        end: start + ram.bytes[piece],
      });
      bytes += ram.bytes[piece];
    }
    expect(bytes, `RAM of ${name} that is backed`).toBe(backing.layout.bytes);
    mappings[name] = readFileSync(`/proc/${pid}/maps`, "utf8").split("\n").length - 1;
  }
  expect(new Set(held.map(({ file }) => file)).size, "memory files").toBe(state.vms.length);
  held.sort((a, b) => a.file.localeCompare(b.file) || a.start - b.start);
  const twice = held.filter(
    (one, at) => at > 0 && held[at - 1].file === one.file && held[at - 1].end > one.start,
  );
  expect(twice, "pages mapped twice").toEqual([]);
  const limit = Number(readFileSync("/proc/sys/vm/max_map_count", "utf8"));
  for (const [vm, count] of Object.entries(mappings)) expect(count, `mappings of ${vm}`).toBeLessThan(limit);
  return mappings;
}
