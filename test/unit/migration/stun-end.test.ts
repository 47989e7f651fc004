/** The end of a stun whose daemon is gone, on two real QEMUs that stand still. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Journal, readJournal } from "../../../src/migration/journal.js";
import type { State } from "../../../src/migration/states.js";
import { endStun, type StunnedVms } from "../../../src/migration/stun-end.js";
import { QmpClient } from "../../../src/vm/qmp.js";
import { journalHead } from "../../support/requests.js";
import { PausedQemu } from "../vm/paused-qemu.js";

let folder: string;
let file: string;
let qemus: PausedQemu[];
let vms: StunnedVms;

async function runState({ endpoint }: PausedQemu): Promise<unknown> {
  using client = await QmpClient.open(endpoint.qmpSocket);
  return ((await client.execute("query-status")) as { status: string }).status;
}
const states = (): Promise<unknown[]> => Promise.all(qemus.map(runState));

/** A journal whose migration has come as far as `last`, and then lost its daemon. */
function journalAt(...path: State[]): void {
  const journal = Journal.create(file, { ...journalHead, method: "warp" });
  for (const state of path) journal.enter(state);
  journal.close();
}
const upToPopulated: State[] = ["prepared", "frozen", "dumped", "transferred", "held", "populated"];

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "mwarp-unit-"));
  file = path.join(folder, "m", "journal");
  qemus = [await PausedQemu.start(), await PausedQemu.start()];
  for (const vm of qemus) {
    await vm.qmp.execute("cont");
    await vm.qmp.execute("stop");
  }
  const [source, destination] = await Promise.all(
    qemus.map(async (vm) => ({ endpoint: vm.endpoint, layout: await vm.layout() })),
  );
  vms = { source, destination };
  // QEMU serves one QMP client at a time, and the daemon that had these is gone.
  for (const vm of qemus) vm.qmp.close();
  expect(await states()).toEqual(["paused", "paused"]);
}, 30_000);
afterEach(async () => {
  for (const vm of qemus) await vm[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const signal = new AbortController().signal;

describe("a stun that lost its daemon", () => {
  it("before the exchange: the journal says that the source has it, and both VMs go on", async () => {
    journalAt(...upToPopulated);
    expect(await endStun(file, vms, signal)).toBe("both VMs go on");
    expect(readJournal(file)?.state).toBe("aborting");
    expect(await states()).toEqual(["running", "running"]);
  });

  it("after the commit: the journal stays as it is, and both VMs go on", async () => {
    journalAt(...upToPopulated, "committed");
    expect(await endStun(file, vms, signal)).toContain("committed");
    expect(readJournal(file)?.state).toBe("committed");
    expect(await states()).toEqual(["running", "running"]);
  });

  it("whose VM is still busy with somebody else at first goes on, too", { timeout: 40_000 }, async () => {
    journalAt(...upToPopulated);
    const busy = await QmpClient.open(vms.destination.endpoint.qmpSocket);
    setTimeout(() => busy.close(), 4_000);
    await endStun(file, vms, signal);
    expect(await states()).toEqual(["running", "running"]);
  });

  it("is left alone when recovery has been there: paused VMs are somebody else's then", async () => {
    journalAt(...upToPopulated, "aborting");
    expect(await endStun(file, vms, signal)).toContain("no stun to end");
    expect(await states()).toEqual(["paused", "paused"]);
  });
});
