import { existsSync, statSync } from "node:fs";
import { request } from "node:http";
import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { DaemonClient } from "../../../src/daemon/client.js";
import { startDaemon } from "../../../src/daemon/process.js";
import { MwarpError } from "../../../src/errors.js";
import { daemonPidFile } from "../../../src/paths.js";
import type { RunRequest } from "../../../src/protocol/api.js";
import { NO_WISH } from "../../../src/protocol/health.js";
import { NO_RESTART } from "../../../src/protocol/restart.js";
import { moveWeb } from "../../support/requests.js";
import { containerState } from "./fake-container.js";
import { FakeHost, serve } from "./fakes.js";

const runRequest = (name: string, changes: Partial<RunRequest> = {}): RunRequest => ({
  name,
  vm: "vm-a",
  source: { kind: "rootfs", directory: process.cwd(), argv: ["/bin/mwarp"] },
  env: [],
  workdir: null,
  memoryLimitBytes: null,
  terminal: null,
  ipv4: null,
  ipv6: null,
  mac: null,
  hostname: null,
  restart: NO_RESTART,
  health: NO_WISH,
  runtime: "runc",
  ...changes,
});

const web = moveWeb();

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "no error",
    (error: unknown) => (error instanceof MwarpError ? error.code : String(error)),
  );
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Collects the output of a command. */
function capture() {
  const out = { 1: "", 2: "" };
  const write = (fd: 1 | 2, data: Buffer): void => {
    out[fd] += data.toString();
  };
  return { out, io: { stdin: null, write } };
}

describe("the daemon's API", () => {
  it("lists the containers of all VMs, and names a VM that does not answer instead of failing", async () => {
    const host = new FakeHost("vm-a", "vm-b", "vm-c");
    host.guest("vm-a").containers.push(containerState("web"));
    host.guest("vm-b").state = "gone";
    await using test = await serve(host);
    const { containers, unreachable } = await new DaemonClient(test.socket).containers();
    expect(containers.map(({ vm, container }) => [vm, container.spec.name])).toEqual([["vm-a", "web"]]);
    expect(unreachable).toMatchObject([{ vm: "vm-b", error: { code: "MWARP_E_VM_UNREACHABLE" } }]);
  });

  it("gives up on a silent agent after the listing's time limit", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    host.guest("vm-a").containers.push(containerState("web"));
    host.guest("vm-b").state = "silent";
    await using test = await serve(host);
    const { containers, unreachable } = await new DaemonClient(test.socket).containers();
    expect(containers).toHaveLength(1);
    expect(unreachable).toMatchObject([{ vm: "vm-b", error: { code: "MWARP_E_AGENT_UNREACHABLE" } }]);
  });

  it("does not call a container unknown while a VM that may have it is silent", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    host.guest("vm-b").state = "silent";
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    expect(await codeOf(client.remove("web", { force: false }))).toBe("MWARP_E_AGENT_UNREACHABLE");
    host.guest("vm-b").state = "gone";
    expect(await codeOf(client.remove("web", { force: false }))).toBe("MWARP_E_CONTAINER_UNKNOWN");
  });

  it("runs a container: uploads a root file system once and gives out different addresses", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    const [one, two] = await Promise.all([client.run(runRequest("one")), client.run(runRequest("two"))]);
    const three = await client.run(runRequest("three"));
    const addresses = [one, two, three].map(({ container }) => container.spec.network.ipv4);
    expect(new Set(addresses).size).toBe(3);
    const uploads = host.guest("vm-a").calls.filter(({ method }) => method === "rootfs.put");
    expect(uploads.length).toBeLessThanOrEqual(2);
    expect(host.guest("vm-a").uploaded).toBeGreaterThan(0);
  });

  it("refuses a name that a container on any VM has", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    host.guest("vm-b").containers.push(containerState("web"));
    await using test = await serve(host);
    expect(await codeOf(new DaemonClient(test.socket).run(runRequest("web")))).toBe("MWARP_E_NAME_TAKEN");
    expect(host.guest("vm-a").containers).toHaveLength(0);
  });

  it("leaves nothing of a container that did not start", async () => {
    const host = new FakeHost("vm-a");
    host.guest("vm-a").runError = new MwarpError("MWARP_E_RUNTIME", "runc failed", {
      details: ["exec: not found"],
    });
    await using test = await serve(host);
    const error = await new DaemonClient(test.socket)
      .run(runRequest("web"))
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "MWARP_E_RUNTIME", details: ["exec: not found"], exit: 1 });
    expect(host.guest("vm-a").calls.at(-1)).toMatchObject({ method: "container.remove" });
  });

  it("answers a malformed request with every field that is wrong", async () => {
    await using test = await serve(new FakeHost("vm-a"));
    const bad = { ...runRequest("-bad-"), env: ["novalue"] };
    const error = await new DaemonClient(test.socket).run(bad).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "MWARP_E_USAGE", exit: 2 });
    expect((error as MwarpError).details.map((line) => line.split(":")[0])).toEqual(["name", "env.0"]);
  });

  it("answers what it does not know with a protocol error", async () => {
    await using test = await serve(new FakeHost());
    const status = await new Promise((resolve, reject) => {
      const call = request({ socketPath: test.socket, path: "/v2/anything" }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      });
      call.on("error", reject).end();
    });
    expect(status).toBe(500);
  });

  it("takes a unique prefix of a container's id for its name", async () => {
    const host = new FakeHost("vm-a");
    host.guest("vm-a").containers.push(containerState("web"), containerState("web-two"));
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    const { id } = host.guest("vm-a").containers[1]!.spec;
    expect(await codeOf(client.remove(id.slice(0, 4), { force: true }))).toBe("MWARP_E_USAGE");
    expect(await client.remove(id.slice(0, 10), { force: true })).toBe("web-two");
  });

  it("does not remove a running container without force", async () => {
    const host = new FakeHost("vm-a");
    host.guest("vm-a").containers.push(containerState("web"), containerState("old", { status: "stopped" }));
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    expect(await codeOf(client.remove("web", { force: false }))).toBe("MWARP_E_BUSY");
    expect(await client.remove("old", { force: false })).toBe("old");
    expect(host.guest("vm-a").containers.map(({ spec }) => spec.name)).toEqual(["web"]);
  });
});

describe("exec", () => {
  it("passes both outputs and the exit code on", async () => {
    const host = new FakeHost("vm-a");
    host.guest("vm-a").containers.push(containerState("web"));
    await using test = await serve(host);
    const { out, io } = capture();
    const request = { argv: ["echo", "hello", "there"], env: [], cwd: null };
    expect(await new DaemonClient(test.socket).exec("web", request, io)).toBe(3);
    expect(out).toEqual({ 1: "hello there", 2: "!" });
  });

  it("passes stdin on while output comes back", async () => {
    await using test = await serve(new FakeHost("vm-a"));
    const { out, io } = capture();
    const sent = "x".repeat(3_000_000);
    const stdin = Readable.from([Buffer.from(sent.slice(0, 1_000_000)), Buffer.from(sent.slice(1_000_000))]);
    expect(await new DaemonClient(test.socket).execInVm("vm-a", ["cat"], { ...io, stdin })).toBe(0);
    expect(out[1]).toBe(sent);
  });

  it("answers before stdin ends: both directions flow at once", async () => {
    await using test = await serve(new FakeHost("vm-a"));
    const stdin = new Readable({ read: () => undefined });
    stdin.push("first");
    let seen = "";
    const write = (_fd: 1 | 2, data: Buffer): void => {
      seen += data.toString();
      if (seen === "first") stdin.push(" second");
      if (seen === "first second") stdin.push(null);
    };
    expect(await new DaemonClient(test.socket).execInVm("vm-a", ["cat"], { stdin, write })).toBe(0);
    expect(seen).toBe("first second");
  });

  it("cancels the command when the client goes away", async () => {
    const host = new FakeHost("vm-a");
    await using test = await serve(host);
    const abort = new AbortController();
    const running = new DaemonClient(test.socket).execInVm("vm-a", ["hang"], {
      ...capture().io,
      signal: abort.signal,
    });
    await expect.poll(() => host.guest("vm-a").calls.length).toBe(1);
    abort.abort();
    await expect(running).rejects.toThrow();
    await expect.poll(() => host.guest("vm-a").cancelled).toBe(1);
  });

  it("refuses a container that does not run", async () => {
    const host = new FakeHost("vm-a");
    host.guest("vm-a").containers.push(containerState("web", { status: "stopped" }));
    await using test = await serve(host);
    const request = { argv: ["true"], env: [], cwd: null };
    const failed = new DaemonClient(test.socket).exec("web", request, capture().io);
    expect(await codeOf(failed)).toBe("MWARP_E_NOT_RUNNING");
  });
});

describe("logs", () => {
  it("come as parsed lines whatever the pieces they arrive in", async () => {
    const host = new FakeHost("vm-a");
    host.guest("vm-a").containers.push(containerState("web"));
    host.guest("vm-a").logText =
      "2026-01-01T00:00:00.5Z stdout F ready\n2026-01-01T00:00:01Z stderr F \n2026-01-01T00:00:02Z stdout F a b  c\n";
    await using test = await serve(host);
    const lines = await collect(new DaemonClient(test.socket).logs("web", { follow: false, tail: null }));
    expect(lines.map(({ stream, text }) => [stream, text])).toEqual([
      ["stdout", "ready"],
      ["stderr", ""],
      ["stdout", "a b  c"],
    ]);
  });
});

describe("migrations", () => {
  it("replay all events to whoever comes late, then follow to the end", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    host.guest("vm-a").containers.push(containerState("web"));
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    const id = await client.startMigration(web);
    const [migration] = host.engine.migrations;
    migration!.emit({ event: "phase", id, phase: "preflight", elapsed_ms: 0 });
    const early = collect(client.migrationEvents(id));
    migration!.emit({ event: "phase", id, phase: "prepare", elapsed_ms: 5 });
    migration!.finish();
    const names = ["phase", "phase", "done"];
    expect((await early).map(({ event }) => event)).toEqual(names);
    expect((await collect(client.migrationEvents(id))).map(({ event }) => event)).toEqual(names);
  });

  it("hold their container: a second one is refused as busy until the first has ended", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    host.guest("vm-a").containers.push(containerState("web"));
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    await client.startMigration(web);
    expect(await codeOf(client.startMigration(web))).toBe("MWARP_E_BUSY");
    expect(await codeOf(client.remove("web", { force: true }))).toBe("MWARP_E_BUSY");
    expect((await client.version()).busy).toBe(1);
    host.engine.migrations[0]!.finish();
    await expect.poll(async () => (await client.version()).busy).toBe(0);
    expect(await codeOf(client.startMigration(web))).toBe("no error");
  });

  it("know the container by a prefix of its id", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    host.guest("vm-a").containers.push(containerState("web"));
    await using test = await serve(host);
    const { id } = host.guest("vm-a").containers[0]!.spec;
    await new DaemonClient(test.socket).startMigration({ ...web, container: id.slice(0, 8) });
    expect(host.engine.migrations[0]!.request.container).toBe("web");
  });

  it("say whether a cancel still helps", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    const id = await client.startMigration(web);
    expect(await client.cancelMigration(id)).toEqual({ state: "cancelling" });
    host.engine.migrations[0]!.committed = true;
    expect(await client.cancelMigration(id)).toEqual({ state: "finishing" });
    host.engine.migrations[0]!.finish();
    await expect.poll(() => client.cancelMigration(id)).toEqual({ state: "done" });
    expect(await codeOf(client.cancelMigration("nothing"))).toBe("MWARP_E_MIGRATION_UNKNOWN");
  });

  it("stay committed while their recovery is pending", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    const id = await client.startMigration(web);
    host.engine.migrations[0]!.finish();
    await collect(client.migrationEvents(id));
    const committed = async (): Promise<boolean> => (await client.migration(id)).committed;
    const found = { migration: id, container: "web", vm: null, message: "vm-a does not answer" } as const;
    host.engine.open.push({ ...found, outcome: "pending" });
    await client.recover();
    expect(await committed()).toBe(true);
    host.engine.open.push({ ...found, outcome: "aborted" });
    await client.recover();
    expect(await committed()).toBe(false);
  });

  it("are remembered by the next daemon; one that was cut off is called interrupted", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    const ended = await client.startMigration(web);
    host.engine.migrations[0]!.finish();
    await collect(client.migrationEvents(ended));
    await client.startMigration({ ...web, container: "other" });
    // A second daemon on a copy of the state: what a crash would have left.
    const { cpSync } = await import("node:fs");
    const env = {
      ...test.env,
      MWARP_RUN_DIR: `${test.directory}/run2`,
      MWARP_STATE_DIR: `${test.directory}/state2`,
    };
    cpSync(test.env.MWARP_STATE_DIR!, env.MWARP_STATE_DIR, { recursive: true });
    const second = await startDaemon(env, new FakeHost().ports("/"));
    const { migrations } = await new DaemonClient(`${env.MWARP_RUN_DIR}/daemon.sock`).migrations();
    expect(migrations.map(({ state, report }) => [state, report?.outcome ?? null])).toEqual([
      ["done", "committed"],
      ["interrupted", null],
    ]);
    second.stop();
    await second.stopped;
  });
});

describe("the daemon's life", () => {
  it("serves on a socket for owner and group only, and takes everything away at its end", async () => {
    const host = new FakeHost("vm-a");
    const test = await serve(host);
    expect(statSync(test.socket).mode & 0o777).toBe(0o660);
    expect(host.engine.recoveries).toBe(1);
    test.daemon.stop();
    await test.daemon.stopped;
    expect(existsSync(test.socket)).toBe(false);
    expect(existsSync(daemonPidFile(test.env))).toBe(false);
    await test[Symbol.asyncDispose]();
  });

  it("is the only one of its run directory", async () => {
    await using test = await serve(new FakeHost());
    const second = startDaemon(test.env, new FakeHost().ports("/"));
    expect(await codeOf(second)).toBe("MWARP_E_BUSY");
    expect((await new DaemonClient(test.socket).version()).pid).toBe(process.pid);
  });

  it("lets running migrations roll back before it ends, and starts no new ones", async () => {
    const host = new FakeHost("vm-a", "vm-b");
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    await client.startMigration(web);
    const [migration] = host.engine.migrations;
    await client.shutdown({ ifUnused: false });
    await expect.poll(() => migration!.cancelled).toBe(true);
    expect(await codeOf(client.startMigration({ ...web, container: "other" }))).toBe("MWARP_E_BUSY");
    let ended = false;
    const stopped = test.daemon.stopped.then(() => {
      ended = true;
    });
    expect(ended).toBe(false);
    migration!.finish({ outcome: "aborted" });
    await stopped;
  });

  it("stays when asked to end only if unused, while a VM is attached, which cannot go while a migration needs it", async () => {
    const host = new FakeHost("vm-a");
    await using test = await serve(host);
    const client = new DaemonClient(test.socket);
    expect(await codeOf(client.shutdown({ ifUnused: true }))).toBe("MWARP_E_BUSY");
    host.engine.needed = "vm-a";
    expect(await codeOf(client.detachVm("vm-a"))).toBe("MWARP_E_BUSY");
    host.engine.needed = "";
    await client.detachVm("vm-a");
    await client.shutdown({ ifUnused: true });
    await test.daemon.stopped;
  });

  it("is reported as unreachable when it does not run", async () => {
    expect(await codeOf(new DaemonClient("/nonexistent/daemon.sock").version())).toBe(
      "MWARP_E_DAEMON_UNREACHABLE",
    );
  });
});
