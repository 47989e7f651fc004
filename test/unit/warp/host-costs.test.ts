import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type CostFile, CostFileSchema, type CostHost } from "../../../src/protocol/costs.js";
import { DEFAULT_COSTS } from "../../../src/warp/cost-model.js";
import { describeHost, HostCosts } from "../../../src/warp/host-costs.js";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "mwarp-costs-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const HOST: CostHost = { kernel: "6.12", cpu: "one", processors: 2, shmem_huge: "never" };
const measured = (copyPerPageUs: number) => ({ ...DEFAULT_COSTS["4k"], copyPerPageUs });

/** A host that counts how often it is measured; what it costs tells which time that was. */
class Host {
  measurements = 0;
  host = HOST;
  hugePages = false;
  busy = false;
  measure: (signal: AbortSignal) => Promise<CostFile["costs"]> = async () => ({
    "4k": measured(this.measurements),
    thp: measured(this.measurements),
    hugetlb: this.hugePages ? measured(this.measurements) : null,
  });
  readonly log: string[] = [];
  readonly file = path.join(directory, "state", "costs.json");

  /** As a daemon that starts now would. */
  open(): HostCosts {
    const note = (fields: object, message: string): void => {
      this.log.push(`${message} ${"why" in fields ? fields.why : ""}`.trim());
    };
    const parts = {
      describe: () => this.host,
      isBusy: () => this.busy,
      hasHugePages: () => this.hugePages,
      measure: async (signal: AbortSignal) => {
        this.measurements++;
        return this.measure(signal);
      },
    };
    return new HostCosts(this.file, parts, { info: note, warn: note });
  }
}

describe("the costs of a host", () => {
  it("are measured at first use and kept: the next daemon reads them", async () => {
    const host = new Host();
    expect((await host.open().current())["4k"].copyPerPageUs).toBe(1);
    expect((await host.open().current())["4k"].copyPerPageUs).toBe(1);
    expect(host.measurements).toBe(1);
    expect(host.log[0]).toBe("exchange costs are measured first use");
    expect(CostFileSchema.parse(JSON.parse(readFileSync(host.file, "utf8"))).host).toEqual(HOST);
    expect(readdirSync(path.dirname(host.file))).toEqual(["costs.json"]);
  });

  it("are measured once for all who ask meanwhile", async () => {
    const host = new Host();
    const costs = host.open();
    const all = await Promise.all([costs.current(), costs.current(), costs.current()]);
    expect(all.map((model) => model.thp.copyPerPageUs)).toEqual([1, 1, 1]);
    expect(host.measurements).toBe(1);
  });

  it("of memory that could not be had are the built-in ones, until it can be had", async () => {
    const host = new Host();
    expect((await host.open().current()).hugetlb).toEqual(DEFAULT_COSTS.hugetlb);
    host.hugePages = true;
    expect((await host.open().current()).hugetlb.copyPerPageUs).toBe(2);
    // That the pages are in use by now changes nothing.
    host.hugePages = false;
    expect((await host.open().current()).hugetlb.copyPerPageUs).toBe(2);
    expect(host.measurements).toBe(2);
  });

  it("that were measured while others kept the host busy hold until it is not", async () => {
    const host = new Host();
    host.busy = true;
    for (let time = 0; time < 3; time++) await host.open().current();
    expect(host.measurements).toBe(1);
    host.busy = false;
    for (let time = 0; time < 3; time++) await host.open().current();
    expect(host.measurements).toBe(2);
    // And busy again, it keeps what it has.
    host.busy = true;
    expect((await host.open().current())["4k"].copyPerPageUs).toBe(2);
  });

  it("are not measured again and again for huge pages that are there and cannot be had", async () => {
    const host = new Host();
    await host.open().current();
    host.hugePages = true;
    host.measure = async () => ({ "4k": measured(2), thp: measured(2), hugetlb: null });
    const costs = host.open();
    for (let time = 0; time < 3; time++) await costs.current();
    expect(host.measurements).toBe(2);
  });

  it.each([
    ["kernel", { kernel: "6.13" }],
    ["cpu", { cpu: "another" }],
    ["processors", { processors: 4 }],
    ["shmem_huge", { shmem_huge: "always" }],
  ])("are measured anew when the host has another %s", async (name, change) => {
    const host = new Host();
    await host.open().current();
    host.host = { ...HOST, ...change };
    expect((await host.open().current())["4k"].copyPerPageUs).toBe(2);
    expect(host.log.at(-2)).toContain(`the host has changed: ${name} was`);
  });

  it.each([
    ["cut short", (text: string) => text.slice(0, 100)],
    ["empty", () => ""],
    ["of another version", (text: string) => text.replace('"version":1', '"version":2')],
    ["with a negative cost", (text: string) => text.replace(/"copyPerPageUs":\d+/, '"copyPerPageUs":-1')],
    ["without a kind of memory", (text: string) => text.replace('"thp"', '"other"')],
  ])("are measured anew, and that is said, when the file is %s", async (_name, damage) => {
    const host = new Host();
    await host.open().current();
    writeFileSync(host.file, damage(readFileSync(host.file, "utf8")));
    expect((await host.open().current())["4k"].copyPerPageUs).toBe(2);
    expect(host.log.at(-2)).toContain("damaged or of another version");
    expect((await host.open().current())["4k"].copyPerPageUs).toBe(2);
  });

  it("are the built-in ones when measuring fails or gives nonsense; it is tried again, and nothing is kept", async () => {
    const host = new Host();
    host.measure = async () => {
      throw new Error("no such program");
    };
    expect(await host.open().current()).toEqual(DEFAULT_COSTS);
    expect(host.log.at(-1)).toContain("built-in ones hold");
    host.measure = async () => ({ "4k": measured(Number.NaN), thp: null, hugetlb: null });
    expect(await host.open().current()).toEqual(DEFAULT_COSTS);
    expect(() => readFileSync(host.file)).toThrow("ENOENT");
    expect(host.measurements).toBe(2);
  });

  it("are the built-in ones where the host cannot be looked at", async () => {
    const host = new Host();
    await host.open().current();
    Object.defineProperty(host, "host", {
      get: () => {
        throw new Error("no permission");
      },
    });
    expect(await host.open().current()).toEqual(DEFAULT_COSTS);
    expect(host.log.at(-1)).toContain("cannot be told from another");
  });

  it("do not keep a daemon from ending: a measurement under way is given up", async () => {
    const host = new Host();
    host.measure = (signal) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("given up"))));
    const costs = host.open();
    const asked = costs.current();
    await costs.close();
    expect(await asked).toEqual(DEFAULT_COSTS);
  });

  it("belong to a host that can be told from others", () => {
    const { kernel, cpu, processors, shmem_huge } = describeHost();
    expect(kernel).toMatch(/^\d+\.\d+/);
    expect(cpu.length).toBeGreaterThan(0);
    expect(processors).toBeGreaterThan(0);
    expect(shmem_huge).toMatch(/^\w+$/);
  });
});
