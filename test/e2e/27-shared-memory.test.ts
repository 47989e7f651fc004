/** Shared memory, what lies on tmpfs, and removed files: CRIU has them in its images, and the frames of those change owner. */
import { beforeAll, describe, expect, it } from "vitest";
import type { ImagePoint } from "../../src/migration/faults.js";
import { type MigrationReport, MigrationReportSchema } from "../../src/protocol/migration.js";
import { PAGE_BYTES } from "../../src/units.js";
import { Crashes } from "../support/crash.js";
import { expectOnePagePerPage } from "../support/host-memory.js";
import { useLab } from "../support/lab.js";
import { Aftermath } from "../support/one-owner.js";
import { Workload } from "../support/workload.js";

const MINUTES = 60_000;
const MIB = 1024 * 1024;
const SIZE_MIB = 6;
/** Kinds of which every page is filled; of one more it is every eighth (test/workloads/shared.c). */
const FULL_KINDS = 7;
/** What a move of a container without shared memory brings through the channels, many times over. */
const CHANNEL_BYTES = 2 * MIB;
const other = (vm: string): string => (vm === "vm-a" ? "vm-b" : "vm-a");

function expectWarped({ memory }: MigrationReport): void {
  expect(memory.warped_image_bytes, "of image files").toBeGreaterThanOrEqual(FULL_KINDS * SIZE_MIB * MIB);
  const pages = memory.remapped_image_pages + memory.copied_image_pages;
  expect(pages * PAGE_BYTES).toBeGreaterThanOrEqual(memory.warped_image_bytes);
  expect(memory.image_bytes).toBeLessThan(CHANNEL_BYTES);
  expect(memory.network_bytes).toBe(0);
}

describe("shared memory of a container", () => {
  // Of 4 KiB pages, so that single frames can be exchanged.
  const host = useLab({ memory: "512M", backing: "4k" });
  let shared: Workload;
  let crashes: Crashes;
  let after: Aftermath;
  beforeAll(async () => {
    shared = await Workload.run(host.lab, "vm-a", "shared", ["shared", String(SIZE_MIB)]);
    crashes = new Crashes(host.lab);
    after = new Aftermath(shared, ["vm-a", "vm-b"]);
  });

  it(
    "goes by exchange of frames, there and back, and no bulk of it through a channel",
    async () => {
      await shared.migrate("vm-b");
      await shared.verify();
      // Now both VMs have the root file system, which is the bulk of what goes through the channel otherwise.
      const back = await shared.migrate("vm-a", ["--backend", "remap"]);
      await shared.verify();
      expectWarped(back);
      expect(back.memory.remapped_image_pages).toBeGreaterThan(9 * back.memory.copied_image_pages);
      expect(back.memory.channel_bytes).toBeLessThan(CHANNEL_BYTES);
      expect(back.stun_ms.times, "one stun for images, one for memory").toBe(2);
      await expectOnePagePerPage(host.lab);
    },
    4 * MINUTES,
  );

  it(
    "is copied by the host where frames are not to be exchanged",
    async () => {
      const report = await shared.migrate(other(await shared.vm()), ["--backend", "copy"]);
      await shared.verify();
      expectWarped(report);
      expect(report.memory.remapped_image_pages).toBe(0);
    },
    3 * MINUTES,
  );

  it(
    "is as it was on the source when the migration fails after its image files have been exchanged",
    async () => {
      await crashes.begin();
      crashes.arm("fail:transferred");
      const from = await shared.vm();
      const end = await crashes.mwarp.run([
        ...["migrate", "shared", "--to", other(from), "--backend", "remap", "--json"],
      ]);
      crashes.disarm();
      const report = MigrationReportSchema.parse(JSON.parse(end.stdout));
      expect(report.outcome).toBe("aborted");
      expect(report.memory.remapped_image_pages).toBeGreaterThan(0);
      expect(await after.expectMovable("aborted")).toBe(from);
    },
    5 * MINUTES,
  );

  const points: readonly ImagePoint[] = ["imagesExchanged", "imagesSettled"];
  it.each(points)("is whole when the daemon dies at %s", { timeout: 5 * MINUTES }, async (point) => {
    await crashes.begin();
    crashes.arm(`kill:${point}`);
    const from = await shared.vm();
    const end = await crashes.mwarp.run([
      ...["migrate", "shared", "--to", other(from), "--backend", "remap"],
    ]);
    expect(end.exit).toBe(8);
    await crashes.settle();
    expect(await after.expectMovable("daemon")).toBe(from);
    await expectOnePagePerPage(host.lab);
  });
});
