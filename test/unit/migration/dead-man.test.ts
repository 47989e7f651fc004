/** The dead-man helper's program as a process: what it does when the daemon that started it is gone. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { build } from "esbuild";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type DeadManOrders, DISMISSAL } from "../../../src/migration/dead-man.js";
import { Journal } from "../../../src/migration/journal.js";
import { startTimeOf } from "../../../src/vm/process.js";
import type { VmEndpoint } from "../../../src/vm/types.js";
import { journalHead } from "../../support/requests.js";

const root = path.resolve(import.meta.dirname, "../../..");
const program = path.join(root, "dist/test/dead-man-main.mjs");
beforeAll(() =>
  build({
    entryPoints: [path.join(root, "src/migration/dead-man-main.ts")],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    logLevel: "error",
  }),
);

const self: VmEndpoint = {
  name: "vm-a",
  pid: process.pid,
  startTime: startTimeOf(process.pid)!,
  qmpSocket: "/none",
  agentSocket: "/none",
  vmmSocket: null,
  address: null,
};
const ended: VmEndpoint = { ...self, startTime: "1" };

describe("the dead-man helper", () => {
  let folder: string;
  let journal: Journal;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "mwarp-dead-man-"));
    journal = Journal.create(path.join(folder, "m", "journal"), { ...journalHead, method: "cold" });
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** Arms a helper, lets its daemon end with these last words, and says whether another daemon was started. */
  async function afterDaemon(lastWords: string, vms: readonly VmEndpoint[]): Promise<boolean> {
    const started = path.join(folder, "started");
    const orders: DeadManOrders = {
      journalPath: path.join(folder, "m", "journal"),
      vms,
      stun: null,
      restart: ["/bin/sh", "-c", `echo > ${started}`],
    };
    const helper: ChildProcess = spawn(process.execPath, [program], { stdio: ["pipe", "pipe", "ignore"] });
    const exit = once(helper, "exit");
    helper.stdin?.write(`${JSON.stringify(orders)}\n`);
    const [armed] = await once(helper.stdout!, "data");
    expect(String(armed)).toContain("armed");
    helper.stdin?.end(lastWords);
    const [code] = await exit;
    expect(code).toBe(0);
    if (lastWords !== "") return existsSync(started);
    return await expect
      .poll(() => existsSync(started), { timeout: 1500 })
      .toBe(true)
      .then(
        () => true,
        () => false,
      );
  }

  it("starts a daemon when its own has died in a migration", async () => {
    journal.enter("prepared");
    journal.close();
    expect(await afterDaemon("", [self, ended])).toBe(true);
  });

  it("does nothing when its daemon has dismissed it", async () => {
    journal.close();
    expect(await afterDaemon(DISMISSAL, [self])).toBe(false);
  });

  it("starts none when the journal has come to its end, or no VM is left", async () => {
    expect(await afterDaemon("", [ended, ended])).toBe(false);
    for (const state of ["aborting", "aborted"] as const) journal.enter(state);
    journal.close();
    expect(await afterDaemon("", [self])).toBe(false);
  });
});
