/** The end of a stun whose daemon is gone, on two real QEMUs that stand still. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { ExchangedVm } from "../../../src/migration/exchange-recovery.js";
import { exchangeFile, Journal, readJournal } from "../../../src/migration/journal.js";
import type { State } from "../../../src/migration/states.js";
import { endStun, type StunnedVms } from "../../../src/migration/stun-end.js";
import { BackingReader, backingPiece, fileKey } from "../../../src/vm/backing.js";
import { QmpClient } from "../../../src/vm/qmp.js";
import { VmmLibrary } from "../../../src/vm/vmm-library.js";
import { encodeExchange } from "../../../src/warp/backends/exchange-record.js";
import { RemapBackend, type RemapSide } from "../../../src/warp/backends/remap.js";
import { ExtentsBuilder } from "../../../src/warp/extent-list.js";
import { RamMap } from "../../../src/warp/ram-map.js";
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

/** What backs a VM's RAM, as text. */
function mapped({ endpoint, layout }: ExchangedVm): string[] {
  const backing = new BackingReader(endpoint.pid, layout).read();
  return Array.from({ length: backing.count }, (_, index) => {
    const { hva, bytes, offset, file: behind } = backingPiece(backing, index);
    return `${hva}+${bytes}@${offset} ${fileKey(behind)}`;
  });
}

async function remapSide({ endpoint, layout }: ExchangedVm): Promise<RemapSide & { library: VmmLibrary }> {
  const library = await VmmLibrary.connect(endpoint.vmmSocket!);
  for (const region of layout.regions) await library.region(region.hva, region.bytes);
  const backing = new BackingReader(endpoint.pid, layout);
  return { now: { ram: new RamMap(layout), backing: backing.read() }, library, backing };
}

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

  it("in the middle of an exchange: every frame goes back, both VMs go on, and the record is gone", async () => {
    const journal = Journal.create(file, { ...journalHead, method: "warp" });
    for (const state of upToPopulated) journal.enter(state);
    const before = Object.values(vms).map(mapped);
    const [source, destination] = [await remapSide(vms.source), await remapSide(vms.destination)];
    const extents = new ExtentsBuilder(1);
    extents.push(4096, 8192, 64);
    await new RemapBackend(source, destination, (pieces) =>
      journal.beginExchange(encodeExchange(pieces)),
    ).exchange(extents.build());
    expect(Object.values(vms).map(mapped)).not.toEqual(before);
    // The daemon dies here.
    journal.close();
    for (const { library } of [source, destination]) library.close();

    expect(await endStun(file, vms, signal)).toContain("every frame was put back");
    expect(Object.values(vms).map(mapped)).toEqual(before);
    expect(await states()).toEqual(["running", "running"]);
    expect([readJournal(file)?.state, existsSync(exchangeFile(file))]).toEqual(["aborting", false]);
  });

  it("goes on though its journal cannot be written any more", async () => {
    journalAt(...upToPopulated);
    vi.spyOn(Journal, "reopen").mockImplementation(() => {
      throw new Error("read-only file system");
    });
    expect(await endStun(file, vms, signal)).toMatch(/both VMs go on; read-only/);
    vi.restoreAllMocks();
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
