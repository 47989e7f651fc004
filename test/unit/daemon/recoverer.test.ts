import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { DaemonClient } from "../../../src/daemon/client.js";
import { Recoverer } from "../../../src/daemon/recoverer.js";
import type { RecoveryAction } from "../../../src/protocol/api.js";
import { moveWeb } from "../../support/requests.js";
import { FakeHost, serve, silentLog } from "./fakes.js";

const RETRY_MS = 20;
const left = { migration: "m-0", container: "web", vm: null, message: "vm-a does not answer" } as const;
const pending: RecoveryAction = { ...left, outcome: "pending" };

/** A recoverer whose tries end as the script says; the last line of it for ever. */
function scripted(...script: readonly (readonly RecoveryAction[] | Error)[]) {
  const tries: number[] = [];
  const recoverer = new Recoverer(
    async () => {
      const answer = script[Math.min(tries.push(performance.now()), script.length) - 1];
      if (answer instanceof Error) throw answer;
      return [...(answer ?? [])];
    },
    RETRY_MS,
    silentLog,
  );
  return { recoverer, tries };
}

describe("recovery in the background", () => {
  it("begins at once, and ends with the first try that leaves nothing open", async () => {
    const { recoverer, tries } = scripted([]);
    recoverer.kick();
    expect(tries).toHaveLength(1);
    await sleep(RETRY_MS * 3);
    expect(tries).toHaveLength(1);
  });

  it("tries again what cannot be settled yet, after a failure, too, and less and less often", async () => {
    const { recoverer, tries } = scripted([pending], new Error("no answer"), [pending], []);
    recoverer.kick();
    await expect.poll(() => tries.length).toBe(4);
    const [first, second, third, fourth] = tries as [number, number, number, number];
    expect(third - second).toBeGreaterThan(second - first);
    expect(fourth - third).toBeGreaterThan(third - second);
    await sleep(RETRY_MS * 10);
    expect(tries).toHaveLength(4);
  });

  it("looks once more when it is asked for while it is at work", async () => {
    const { recoverer, tries } = scripted([]);
    for (let i = 0; i < 3; i++) recoverer.kick();
    await expect.poll(() => tries.length).toBe(2);
    await sleep(RETRY_MS * 3);
    expect(tries).toHaveLength(2);
  });

  it("stops when the daemon does", async () => {
    const { recoverer, tries } = scripted([pending]);
    recoverer.kick();
    recoverer[Symbol.dispose]();
    await sleep(RETRY_MS * 5);
    expect(tries).toHaveLength(1);
  });

  it("follows a migration that could be neither committed nor rolled back to its end", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    await expect.poll(() => host.engine.recoveries).toBe(1);
    for (const code of ["MWARP_E_DUMP", "MWARP_E_NEEDS_RECOVERY"] as const) {
      await client.startMigration(moveWeb());
      const details: string[] = [];
      const error = { code, message: "it failed", hint: "", phase: "dump" as const, details };
      host.engine.migrations.at(-1)!.finish({ outcome: "aborted", error });
      await expect.poll(async () => (await client.migrations()).migrations.at(-1)?.state).toBe("done");
    }
    await expect.poll(() => host.engine.recoveries).toBe(2);
  });
});
