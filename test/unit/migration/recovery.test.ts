/** Recovery against VMs that answer from a script: whom it asks for what, in which order, and what it makes of it. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { MwarpError } from "../../../src/errors.js";
import { exchangeFile, Journal, readJournal, type VmmIdentity } from "../../../src/migration/journal.js";
import { JournalStore } from "../../../src/migration/journals.js";
import type { MigrationVm, MigrationWorld } from "../../../src/migration/ports.js";
import { recoverAll } from "../../../src/migration/recovery.js";
import type { State } from "../../../src/migration/states.js";
import type { AgentResult } from "../../../src/protocol/agent.js";
import type { RecoveryAction } from "../../../src/protocol/api.js";
import type { MigrationMethod } from "../../../src/protocol/migration.js";
import { startTimeOf } from "../../../src/vm/process.js";
import { journalHead } from "../../support/requests.js";

const ID = "m-000001";
/** Longer than one side waits for the other. */
const SLOW_MS = 6_000;
const ended: VmmIdentity = { pid: process.pid, startTime: "1" };
const living: VmmIdentity = { pid: process.pid, startTime: startTimeOf(process.pid)! };
const upToHeld: State[] = ["prepared", "frozen", "dumped", "transferred", "held"];

let folder: string;
let asked: string[];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "mwarp-recovery-"));
  asked = [];
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

interface Script {
  identity?: VmmIdentity;
  boot?: string;
  /** Errors by method; "slow" answers late. */
  fails?: Readonly<Record<string, MwarpError | "slow">>;
  /** What `destination.finish` answers. */
  end?: AgentResult<"destination.finish">;
}

function vmOf(
  name: string,
  {
    identity = { pid: 7, startTime: name },
    boot = `boot of ${name}`,
    fails = {},
    end = { outcome: "runs", pid: 1 },
  }: Script,
): MigrationVm {
  const call = async (method: string, params: { source?: string }): Promise<unknown> => {
    if (method === "info") return { bootId: boot };
    asked.push([name, method, ...(params.source === "gone" ? ["without the source"] : [])].join(" "));
    const failure = fails[method];
    if (failure === "slow") {
      await sleep(SLOW_MS);
      asked.push(`${name} has answered`);
    } else if (failure !== undefined) throw failure;
    return method === "destination.finish" ? end : {};
  };
  return {
    endpoint: { name, ...identity },
    isGone: () => false,
    ensureRunning: async () => void asked.push(`${name} runs`),
    agent: async () => ({ call }),
  } as unknown as MigrationVm;
}

/** Recovers one migration from vm-a to vm-b that has come as far as `states`. */
async function recover(
  states: readonly State[],
  scripts: Readonly<Record<string, Script>>,
  vms: { from?: VmmIdentity; to?: VmmIdentity } = {},
  method: MigrationMethod = "cold",
): Promise<RecoveryAction> {
  const store = new JournalStore(folder);
  const journal = Journal.create(store.path(ID), {
    ...journalHead,
    id: ID,
    method,
    vms: { from: { pid: 7, startTime: "vm-a" }, to: { pid: 7, startTime: "vm-b" }, ...vms },
    boots: { from: "boot of vm-a", to: "boot of vm-b" },
  });
  for (const state of states) journal.enter(state);
  journal.close();
  const world: MigrationWorld = {
    vm: (name) => (scripts[name] === undefined ? undefined : vmOf(name, scripts[name])),
    vmNames: () => Object.keys(scripts),
    rootfsFile: () => "",
    containers: async () => ({ containers: [], unreachable: [] }),
  };
  const [action] = await recoverAll(world, store, new Set(), new AbortController().signal);
  return action!;
}
const state = (): State | undefined => readJournal(new JournalStore(folder).path(ID))?.state;
const both = { "vm-a": {}, "vm-b": {} };

describe("recovery before the commit", () => {
  it("clears the destination, gives the container back to the source, and says so", async () => {
    expect(await recover(upToHeld, both)).toMatchObject({ outcome: "aborted", vm: "vm-a" });
    expect(asked.filter((line) => !line.endsWith("runs"))).toEqual([
      "vm-b destination.abort",
      "vm-a source.abort",
    ]);
    expect(state()).toBe("aborted");
  });

  it("does not let a destination without an answer hold up the source", { timeout: 15_000 }, async () => {
    const slow = { "vm-a": {}, "vm-b": { fails: { "destination.abort": "slow" } } } as const;
    expect(await recover(upToHeld, slow)).toMatchObject({ outcome: "aborted" });
    const order = ["vm-b destination.abort", "vm-a source.abort", "vm-b has answered"];
    expect(asked.filter((line) => order.includes(line))).toEqual(order);
  });

  it("serves the source though the journal cannot be written, and stays open", async () => {
    vi.spyOn(Journal, "reopen").mockImplementation(() => {
      throw new MwarpError("MWARP_E_INTERNAL", "read-only file system");
    });
    const action = await recover(upToHeld, both);
    expect(action).toMatchObject({ outcome: "pending", vm: "vm-a" });
    expect(action.message).toMatch(/runs on vm-a; read-only/);
    expect(asked).toContain("vm-a source.abort");
    expect(state()).toBe("held");
  });

  it("calls the container lost when its guest has booted since", async () => {
    const action = await recover(upToHeld, { ...both, "vm-a": { boot: "another" } });
    expect(action).toMatchObject({ outcome: "aborted", vm: null });
    expect(asked).not.toContain("vm-a source.abort");
    expect(state()).toBe("lost");
  });
});

describe("recovery after the commit", () => {
  const committed: State[] = [...upToHeld, "committed"];

  it("lets the container run on the destination and clears the source", async () => {
    expect(await recover(committed, both)).toMatchObject({ outcome: "committed", vm: "vm-b" });
    const methods = asked.filter((line) => !line.endsWith("runs"));
    expect(methods[0]).toBe("vm-b destination.resume");
    expect(methods.slice(1).sort()).toEqual(["vm-a source.retire", "vm-b destination.finish"]);
    expect(state()).toBe("retired");
  });

  it("clears the source, and calls the container lost, when the destination's guest has booted since", async () => {
    const action = await recover(committed, { ...both, "vm-b": { boot: "another" } });
    expect(action).toMatchObject({ outcome: "committed", vm: null });
    expect(asked).toEqual(["vm-b runs", "vm-a runs", "vm-a source.retire"]);
    expect(state()).toBe("lost");
  });

  it("asks a destination that said so once more to let the container run", async () => {
    await recover([...committed, "resumed"], both);
    expect(asked).toContain("vm-b destination.resume");
  });

  it("takes what the destination has forgotten since it ran for finished", async () => {
    const forgotten = new MwarpError("MWARP_E_MIGRATION_UNKNOWN", "knows no migration");
    const fails = { "destination.resume": forgotten, "destination.finish": forgotten };
    const action = await recover([...committed, "resumed"], { ...both, "vm-b": { fails } });
    expect(action.outcome).toBe("committed");
    expect(asked).toContain("vm-a source.retire");
    expect(state()).toBe("retired");
  });

  it("clears the source though the destination cannot be finished yet", async () => {
    const fails = { "destination.finish": new MwarpError("MWARP_E_TIMEOUT", "runc does not end") };
    const action = await recover([...committed, "resumed"], { ...both, "vm-b": { fails } });
    expect(action.outcome).toBe("pending");
    expect(asked).toContain("vm-a source.retire");
    expect(state()).toBe("resumed");
  });
});

describe("a VM of the journal", () => {
  it.each<[string, readonly State[], { from?: VmmIdentity; to?: VmmIdentity }, Record<string, Script>]>([
    ["destination", [...upToHeld, "committed"], { to: living }, { "vm-a": {} }],
    ["source", upToHeld, { from: living }, { "vm-b": {} }],
  ])("that lives and is not attached is not taken for ended: %s", async (_, states, vms, scripts) => {
    const action = await recover(states, scripts, vms);
    expect(action.outcome).toBe("pending");
    expect(action.message).toMatch(/not attached any more/);
    expect(asked).toEqual([]);
    expect(state()).toBe(states.at(-1));
  });

  it("is found by its process, whatever it is called now", async () => {
    const scripts = { "vm-a": {}, renamed: { identity: living, boot: "boot of vm-b" } };
    const action = await recover([...upToHeld, "committed"], scripts, { to: living });
    expect(action.outcome).toBe("committed");
    expect(asked).toContain("renamed destination.resume");
  });

  it("that has ended is not waited for", async () => {
    expect(await recover(upToHeld, { "vm-b": {} }, { from: ended })).toMatchObject({ vm: null });
    expect(asked).toContain("vm-b destination.abort");
    expect(state()).toBe("lost");
  });
});

describe("the record of an exchange", () => {
  it("is gone once every frame is back: a later recovery puts nothing back over what was exchanged since", async () => {
    const file = new JournalStore(folder).path(ID);
    const journal = Journal.create(file, { ...journalHead, id: ID, method: "warp" });
    journal.beginExchange(new Uint8Array([1, 2, 3]));
    journal.forgetExchange();
    journal.close();
    expect(readJournal(file)?.exchanging).toBe(true);
    expect(() => writeFileSync(exchangeFile(file), "", { flag: "wx" })).not.toThrow();
  });

  it("is gone once image files have been exchanged for good, or that is an error, and they are put back at once", () => {
    const file = new JournalStore(folder).path(ID);
    const journal = Journal.create(file, { ...journalHead, id: ID, method: "warp" });
    journal.beginExchange(new Uint8Array([1, 2, 3]));
    journal.settleExchange();
    expect(existsSync(exchangeFile(file))).toBe(false);
    // All of them may have been copied: nothing was journaled then.
    expect(() => journal.settleExchange()).not.toThrow();
    mkdirSync(exchangeFile(file));
    expect(() => journal.settleExchange()).toThrow();
    journal.close();
  });
});

describe("recovery of a post-copy after its commit", () => {
  const committed: State[] = [...upToHeld, "committed"];
  const methods = (): string[] => asked.filter((line) => !line.endsWith("runs"));
  const lost = { "vm-b": { end: { outcome: "lost", reason: "the connection broke" } } } as const;

  it("clears the source only when the destination has the last page", async () => {
    expect(await recover(committed, both, {}, "postcopy")).toMatchObject({
      outcome: "committed",
      vm: "vm-b",
    });
    expect(methods()).toEqual(["vm-b destination.resume", "vm-b destination.finish", "vm-a source.retire"]);
    expect(state()).toBe("retired");
  });

  it("leaves the source as it is while pages may still come", async () => {
    const fails = { "destination.finish": new MwarpError("MWARP_E_TIMEOUT", "the last page took longer") };
    const action = await recover(committed, { "vm-a": {}, "vm-b": { fails } }, {}, "postcopy");
    expect(action).toMatchObject({ outcome: "pending" });
    expect(asked).not.toContain("vm-a source.retire");
    expect(state()).toBe("resumed");
  });

  it("calls the container lost when its pages never came, and clears the source", async () => {
    const action = await recover(committed, { "vm-a": {}, ...lost }, {}, "postcopy");
    expect(action).toMatchObject({ outcome: "aborted", vm: null, message: "web ended with vm-a" });
    expect(asked).toContain("vm-a source.retire");
    expect(state()).toBe("lost");
  });

  it("asks the destination not to wait for a VM that has ended", async () => {
    await recover(committed, { "vm-b": {} }, { from: ended }, "postcopy");
    expect(asked).toContain("vm-b destination.finish without the source");
    expect(state()).toBe("retired");
  });
});
