/** A real Redis with a client that never stops, on the bridge of the VMs. */
import { afterAll, describe, expect, it } from "vitest";
import { DemoClient } from "../../src/demo/client.js";
import { MigrationReportSchema } from "../../src/protocol/migration.js";
import { ContainerEntrySchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { long } from "../support/long.js";

const KEYS = 65_536;
const MOVES = Number(process.env.MWARP_TEST_MOVES ?? (long ? 20 : 10));
const host = useLab({ memory: "2G" });
const ending = new AbortController();
afterAll(() => ending.abort());

/** The open connection gets its answers, and every one of them was right. */
async function goesOn(client: DemoClient): Promise<void> {
  await client.flowing(130_000);
  expect(await client.mark()).toMatchObject({ reconnects: 0, wrong: 0 });
}

describe("a Redis with 256 MiB of data and a busy client", () => {
  let client: DemoClient;

  it("starts, is loaded over the network, and answers", async () => {
    const { rootfs, namespace } = await host.lab.status();
    const settings = ["--protected-mode", "no", "--disable-thp", "no", "--save", "", "--appendonly", "no"];
    const { ipv4 } = await host.lab.mwarp.json(ContainerEntrySchema, [
      "run",
      "--vm",
      "vm-a",
      "--name",
      "redis",
      "--rootfs",
      rootfs.redis,
      "--",
      "redis-server",
      ...settings,
    ]);
    client = DemoClient.start(namespace!, ipv4, 6379, ending.signal);
    await client.ready(60_000);
    await client.load(KEYS, () => undefined);
    expect(await client.check(KEYS, () => undefined)).toEqual({ keys: KEYS, missing: 0, wrong: 0 });
    await client.startTraffic();
  });

  it(`keeps every key, every answer and the connection through ${MOVES} moves by warp`, async () => {
    for (let i = 0; i < MOVES; i++) {
      const to = i % 2 === 0 ? "vm-b" : "vm-a";
      await client.mark();
      const report = await host.lab.mwarp.json(MigrationReportSchema, ["migrate", "redis", "--to", to]);
      expect(report).toMatchObject({ outcome: "committed", method: "warp", to });
      expect(await client.check(KEYS, () => undefined)).toEqual({ keys: KEYS, missing: 0, wrong: 0 });
      await goesOn(client);
    }
  }, 600_000);

  it("keeps them through a cold move too", async () => {
    await client.mark();
    const args = ["migrate", "redis", "--to", MOVES % 2 === 0 ? "vm-b" : "vm-a", "--method", "cold"];
    const report = await host.lab.mwarp.json(MigrationReportSchema, args, { timeoutMs: 170_000 });
    expect(report).toMatchObject({ outcome: "committed", method: "cold", backend: null });
    expect(report.memory.remapped_pages).toBe(0);
    expect(report.memory.copied_pages).toBeGreaterThan(KEYS);
    expect(await client.check(KEYS, () => undefined)).toEqual({ keys: KEYS, missing: 0, wrong: 0 });
    await goesOn(client);
  });
});
