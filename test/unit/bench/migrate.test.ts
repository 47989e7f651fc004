import { describe, expect, it } from "vitest";
import { migrate } from "../../../src/bench/migrate.js";
import { DaemonClient } from "../../../src/daemon/client.js";
import { containerState } from "../daemon/fake-container.js";
import { FakeHost, serve } from "../daemon/fakes.js";

const move = { container: "bench", to: "vm-b", method: "warp", backend: "copy", strategy: "auto" } as const;

function host(): FakeHost {
  const fake = new FakeHost("vm-a", "vm-b");
  fake.guest("vm-a").containers.push(containerState("bench"));
  return fake;
}

describe("a migration of the benchmark", () => {
  it("is asked for as it is to be measured, and gives its report whatever became of it", async () => {
    const fake = host();
    await using served = await serve(fake);
    fake.engine.onStart = (migration) => migration.finish({ outcome: "aborted" });
    const report = await migrate(new DaemonClient(served.socket), move, new AbortController().signal);
    expect(report).toMatchObject({ outcome: "aborted", to: "vm-b" });
    expect(fake.engine.migrations[0]!.request).toMatchObject(move);
  });

  it("is rolled back at Ctrl-C before anything else goes on", async () => {
    const fake = host();
    await using served = await serve(fake);
    const abort = new AbortController();
    fake.engine.onStart = () => setTimeout(() => abort.abort(), 50);
    const moving = migrate(new DaemonClient(served.socket), move, abort.signal);
    const until = performance.now() + 5000;
    while (!fake.engine.migrations[0]?.cancelled && performance.now() < until)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(fake.engine.migrations[0]!.cancelled).toBe(true);
    fake.engine.migrations[0]!.finish({ outcome: "aborted" });
    expect((await moving).outcome).toBe("aborted");
  });
});
