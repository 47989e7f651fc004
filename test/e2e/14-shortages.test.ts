/**
 * What runs out or breaks off in the middle of a migration: disks, a stage of CRIU, the channel to an agent. Afterwards one
 * container runs, every byte of it right, nothing is left, and it moves.
 */
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { FaultPoint } from "../../src/migration/faults.js";
import { type MigrationReport, MigrationReportSchema } from "../../src/protocol/migration.js";
import { writeBundle } from "../support/bundle.js";
import { Crashes, type Side } from "../support/crash.js";
import { useLab } from "../support/lab.js";
import { cut, interpose, type LyingAgent } from "../support/lying-agent.js";
import { Aftermath, expectOneOwner } from "../support/one-owner.js";
import {
  criuFails,
  type criuFaults,
  criuLoadsNoFilter,
  criuWorks,
  noRoomForDaemon,
  noRoomInGuest,
  roomForDaemon,
  roomInGuest,
} from "../support/shortage.js";
import { Workload } from "../support/workload.js";

const long = process.env.MWARP_TEST_LONG === "1";
const host = useLab({ memory: "512M" });
const vms = ["vm-a", "vm-b"];
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

describe("one container is left, whole and movable, when", () => {
  let crashes: Crashes;
  let edge: Workload;
  let after: Aftermath;
  let agents: Readonly<Record<string, LyingAgent>> = {};

  beforeAll(async () => {
    const { lab } = host;
    edge = await Workload.run(lab, "vm-a", "edge", ["edge", "24", "thp"]);
    after = new Aftermath(edge, vms);
    crashes = new Crashes(lab);
    await lab.mwarp.ok(["daemon", "stop"]);
    agents = await interpose(lab);
    await crashes.mwarp.ok(["ps"]);
    await lab.ready();
  });
  beforeEach(() => crashes.disarm());
  afterAll(async () => {
    for (const agent of Object.values(agents)) await agent[Symbol.asyncDispose]();
  });

  const at = (side: Side, from: string): string => (side === "source" ? from : other(from));
  const reportOf = ({ stdout }: { readonly stdout: string }): MigrationReport =>
    MigrationReportSchema.parse(JSON.parse(stdout));

  const faults: (readonly [keyof typeof criuFaults, Side])[] = [
    ["dumpPages", "source"],
    ["postRestore", "destination"],
    ["parasiteConnect", "source"],
    ["dumpEarly", "source"],
    ["restoreRoot", "destination"],
  ];

  it.each(long ? faults : faults.slice(0, 3))("CRIU fails at %s on the %s", async (fault, side) => {
    const from = await edge.vm();
    await criuFails(host.lab, at(side, from), fault);
    const report = reportOf(await crashes.mwarp.run(["migrate", "edge", "--to", other(from), "--json"]));
    await criuWorks(host.lab, at(side, from));
    await crashes.settle();
    expect(report.outcome).toBe("aborted");
    expect(await after.expectMovable("CRIU fails")).toBe(from);
  });

  it("CRIU cannot give the container its seccomp filter on the destination", async () => {
    const { lab } = host;
    const from = await edge.vm();
    const bundle = writeBundle(path.join(lab.stateDir, "filtered"), lab.rootfs, ["pattern", "8", "thp"]);
    const filtered = await Workload.runBundle(lab, from, "filtered", bundle);
    const mode = async (): Promise<string> =>
      (await lab.mwarp.ok(["exec", "filtered", "--", "cat", "/proc/1/status"])).match(
        /^Seccomp:\t(\d)$/m,
      )?.[1] ?? "";
    expect(await mode()).toBe("2");
    // There and back once: the destination has the root file system then, and with it the program that is needed.
    for (const to of [other(from), from]) await filtered.migrate(to);
    await criuLoadsNoFilter(lab, other(from));
    const report = reportOf(await crashes.mwarp.run(["migrate", "filtered", "--to", other(from), "--json"]));
    await criuWorks(lab, other(from));
    await crashes.settle();
    expect(report.outcome).toBe("aborted");
    expect(report.error?.code).toBe("MWARP_E_RESTORE");
    // CRIU came as far as the filter: it is that which failed.
    expect(JSON.stringify(report.error)).toMatch(/seccomp/i);
    expect(await expectOneOwner(filtered, vms)).toBe(from);
    // And with its filter where CRIU can.
    await filtered.migrate(other(from));
    expect(await mode()).toBe("2");
    expect((await lab.mwarp.run(["exec", "filtered", "--", "mkdir", "/not"])).stderr).toMatch(
      /not permitted/i,
    );
    await filtered.verify();
    await filtered.remove();
  });

  const crowded: [Side, FaultPoint][] = [
    ["source", "frozen"],
    ["destination", "transferred"],
    ["destination", "dumped"],
  ];
  it.each(long ? crowded : crowded.slice(0, 2))(
    "there is no room left in the guest of the %s in the state %s",
    async (side, state) => {
      const from = await edge.vm();
      const migration = await crashes.startAndHold(["edge", "--to", other(from), "--json"], state);
      await noRoomInGuest(host.lab, at(side, from));
      migration.release();
      const report = reportOf(await migration.finished);
      await roomInGuest(host.lab, at(side, from));
      await crashes.settle();
      expect(report.outcome).toBe("aborted");
      expect(await after.expectMovable("guest")).toBe(from);
    },
  );

  it.each<[FaultPoint, "aborted" | "committed"]>([
    ["prepared", "aborted"],
    ["populated", "aborted"],
    ["committed", "committed"],
  ])("there is no room left for the journal in the state %s: %s", async (state, outcome) => {
    const from = await edge.vm();
    const migration = await crashes.startAndHold(["edge", "--to", other(from), "--json"], state);
    await noRoomForDaemon(host.lab, crashes.lastJournalFile());
    migration.release();
    const report = reportOf(await migration.finished);
    await roomForDaemon(host.lab);
    await crashes.settle();
    expect(report.outcome).toBe(outcome);
    expect(await after.expectMovable("journal")).toBe(outcome === "committed" ? other(from) : from);
  });

  const cuts: [Side, string][] = [
    ["source", "source.dump"],
    ["destination", "destination.restore"],
    ["destination", "destination.resume"],
    ["source", "source.freeze"],
    ["destination", "destination.populate"],
    ["source", "source.retire"],
  ];
  it.each(long ? cuts : cuts.slice(0, 3))(
    "the channel to the %s is cut in the answer to %s",
    async (side, method) => {
      const from = await edge.vm();
      const agent = agents[at(side, from)];
      let cuts = 0;
      agent.lie = { answer: (asked, result) => (asked === method && cuts++ === 0 ? cut : result) };
      const report = reportOf(await crashes.mwarp.run(["migrate", "edge", "--to", other(from), "--json"]));
      agent.lie = null;
      expect(cuts).toBeGreaterThan(0);
      await crashes.settle();
      expect(await after.expectMovable("channel")).toBe(report.outcome === "committed" ? other(from) : from);
    },
  );
});
