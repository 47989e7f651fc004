import { describe, expect, it } from "vitest";
import { buildProgram } from "../../../src/cli/program.js";
import { Session } from "../../../src/cli/session.js";
import type { MigrationReport } from "../../../src/protocol/migration.js";
import { containerState } from "../daemon/fake-container.js";
import { FakeHost, type FakeMigration, record, serve } from "../daemon/fakes.js";
import { FakeIo, mwarp } from "./fake-io.js";

const twoVms = (): FakeHost => {
  const host = new FakeHost("vm-a", "vm-b");
  host.guest("vm-a").containers.push(containerState("web"));
  return host;
};

describe("the command line", () => {
  it("prints help without arguments, for anyone", async () => {
    const io = new FakeIo();
    io.isRoot = false;
    const { status, out } = await mwarp(io);
    expect(status).toBe(0);
    expect(out).toContain("migrate [options] <name>");
    expect(out).toContain("130  interrupted");
  });

  it("prints its version for anyone", async () => {
    const { status, out } = await mwarp(new FakeIo(), "--version");
    expect([status, out]).toEqual([0, "0.1.0\n"]);
  });

  it("has a description for every command and option", () => {
    const visit = (command: ReturnType<typeof buildProgram>): void => {
      expect(command.description(), command.name()).not.toBe("");
      for (const option of command.options) expect(option.description, option.flags).not.toBe("");
      for (const child of command.commands) visit(child);
    };
    visit(buildProgram(new Session(new FakeIo())));
  });

  it("ends with status 2 and a suggestion for what it does not know", async () => {
    const unknown = await mwarp(new FakeIo(), "migrat", "web");
    expect(unknown).toMatchObject({ status: 2, out: "" });
    expect(unknown.err).toContain("Did you mean migrate?");
    const option = await mwarp(new FakeIo(), "ps", "--quite");
    expect(option).toMatchObject({ status: 2, out: "" });
    expect(option.err).toContain("--quiet");
  });

  it("names the option whose value is wrong", async () => {
    const { status, err } = await mwarp(new FakeIo(), "lab", "up", "--memory", "lots");
    expect(status).toBe(2);
    expect(err).toContain("--memory");
    expect(err).toContain("write 512M, 2G");
  });

  it("answers a usage error with a document when --json was asked for, not when the command's own arguments hold it", async () => {
    const json = await mwarp(new FakeIo(), "migrate", "web", "--json");
    expect(JSON.parse(json.out)).toMatchObject({ error: { code: "MWARP_E_USAGE", exit: 2 } });
    const other = await mwarp(new FakeIo(), "exec", "--nope", "web", "--", "tool", "--json");
    expect(other).toMatchObject({ status: 2, out: "" });
  });

  it("says that it needs root before it does anything", async () => {
    for (const argv of [["lab", "up"], ["lab", "down"], ["demo"], ["daemon", "run"], ["ps"]]) {
      const io = new FakeIo({ MWARP_RUN_DIR: "/nonexistent/run", MWARP_STATE_DIR: "/nonexistent/state" });
      io.isRoot = false;
      const { status, err } = await mwarp(io, ...argv);
      expect([argv, status]).toEqual([argv, 2]);
      expect(err).toContain("MWARP_E_NOT_ROOT");
    }
  });

  it("refuses a run without a root file system or without a command", async () => {
    const neither = await mwarp(new FakeIo(), "run", "--vm", "vm-a", "--name", "web", "--", "/bin/true");
    expect(neither.err).toContain("one of --bundle, --rootfs and --image");
    const empty = await mwarp(new FakeIo(), "run", "--vm", "vm-a", "--name", "web", "--rootfs", "/x");
    expect([neither.status, empty.status]).toEqual([2, 2]);
    expect(empty.err).toContain("needs the command");
  });
});

describe("listing", () => {
  it("keeps data on stdout and talk on stderr", async () => {
    const host = twoVms();
    host.guest("vm-b").state = "gone";
    await using test = await serve(host);
    const { status, out, err } = await mwarp(new FakeIo(test.env), "ps");
    expect(status).toBe(0);
    expect(out.split("\n")[1]).toMatch(/^web +776562\w+ +vm-a +running +0 +1\.0 MiB +10\.77\.0\.10\d /);
    expect(err).toContain("vm-b does not answer");
  });

  it("prints names only with -q, one document with --json", async () => {
    await using test = await serve(twoVms());
    expect((await mwarp(new FakeIo(test.env), "ps", "-q")).out).toBe("web\n");
    const { out } = await mwarp(new FakeIo(test.env), "ps", "--json");
    expect(JSON.parse(out)).toMatchObject({
      containers: [{ name: "web", vm: "vm-a", status: "running", memory_bytes: 1048576, migration: null }],
      unreachable: [],
    });
  });

  it("of a VM that is not known ends with status 6", async () => {
    await using test = await serve(twoVms());
    expect((await mwarp(new FakeIo(test.env), "ps", "--vm", "vm-z")).status).toBe(6);
  });
});

describe("exec", () => {
  it("takes over the exit code of the command", async () => {
    await using test = await serve(twoVms());
    const { status, out, err } = await mwarp(new FakeIo(test.env), "exec", "web", "--", "say", "-v", "hello");
    expect({ status, out, err }).toEqual({ status: 3, out: "-v hello", err: "!" });
  });

  it("passes stdin on when it is not a terminal, and with -i only when it is one", async () => {
    await using test = await serve(twoVms());
    const piped = await mwarp(new FakeIo(test.env, "some input"), "exec", "web", "--", "cat");
    expect(piped).toMatchObject({ status: 0, out: "some input" });
    const terminal = new FakeIo(test.env, "typed");
    terminal.stdin.isTTY = true;
    expect((await mwarp(terminal, "exec", "web", "--", "cat")).out).toBe("");
    const interactive = new FakeIo(test.env, "typed");
    interactive.stdin.isTTY = true;
    expect((await mwarp(interactive, "exec", "-i", "web", "--", "cat")).out).toBe("typed");
  });

  it("is ended by Ctrl-C with status 130", async () => {
    const host = twoVms();
    await using test = await serve(host);
    const io = new FakeIo(test.env);
    const running = mwarp(io, "vm", "exec", "vm-a", "--", "hang");
    await expect.poll(() => host.guest("vm-a").calls.length).toBe(1);
    io.pressCtrlC();
    expect((await running).status).toBe(130);
    expect(io.listening).toBe(false);
  });
});

describe("migrate", () => {
  const go = (host: FakeHost, changes: Partial<MigrationReport> = {}): void => {
    host.engine.onStart = (migration) => {
      migration.emit({ event: "phase", id: migration.id, phase: "preflight", elapsed_ms: 0 });
      migration.finish(changes);
    };
  };

  it("says how it went on stderr and nothing on stdout", async () => {
    const host = twoVms();
    go(host);
    await using test = await serve(host);
    const { status, out, err } = await mwarp(new FakeIo(test.env), "migrate", "web", "--to", "vm-b");
    expect([status, out]).toEqual([0, ""]);
    expect(err).toMatch(/^preflight .*\nmoved web vm-a -> vm-b in 312 ms, downtime 41 ms/);
  });

  it("prints exactly the report with --json", async () => {
    const host = twoVms();
    go(host);
    await using test = await serve(host);
    const { out } = await mwarp(new FakeIo(test.env), "migrate", "web", "--to", "vm-b", "--json");
    const printed: unknown = JSON.parse(out);
    expect(printed).toEqual(await host.engine.migrations[0]!.done);
  });

  it("ends with the status of its outcome", async () => {
    const host = twoVms();
    await using test = await serve(host);
    const error = { message: "m", hint: "h", phase: "preflight" as const, details: [] };
    go(host, { outcome: "refused", error: { ...error, code: "MWARP_E_NO_MEMORY" } });
    const refused = await mwarp(new FakeIo(test.env), "migrate", "web", "--to", "vm-b");
    expect(refused.status).toBe(5);
    expect(refused.err).toContain("web is on vm-a, untouched");
    go(host, { outcome: "aborted", error: { ...error, code: "MWARP_E_DUMP" } });
    expect((await mwarp(new FakeIo(test.env), "migrate", "web", "--to", "vm-b")).status).toBe(1);
  });

  it("asks to roll back at Ctrl-C and ends with status 7", async () => {
    const host = twoVms();
    await using test = await serve(host);
    const io = new FakeIo(test.env);
    const running = mwarp(io, "migrate", "web", "--to", "vm-b");
    const migration = await started(host);
    io.pressCtrlC();
    await expect.poll(() => migration.cancelled).toBe(true);
    migration.finish({
      outcome: "aborted",
      error: { code: "MWARP_E_CANCELLED", message: "m", hint: "h", phase: "dump", details: [] },
    });
    const { status, err } = await running;
    expect(status).toBe(7);
    expect(err).toContain("cancelling: it will be rolled back");
    expect(err).toContain("web is running on vm-a");
  });

  it("past the commit says that it is finishing, and detaches at the second Ctrl-C", async () => {
    const host = twoVms();
    await using test = await serve(host);
    const io = new FakeIo(test.env);
    const running = mwarp(io, "migrate", "web", "--to", "vm-b");
    const migration = await started(host);
    migration.committed = true;
    io.pressCtrlC();
    await expect.poll(() => io.stderr.text).toContain("past the commit");
    io.pressCtrlC();
    const { status, err } = await running;
    expect(status).toBe(130);
    expect(err).toContain(`mwarp wait ${migration.id}`);
  });

  it("detached prints the id, which wait takes", async () => {
    const host = twoVms();
    await using test = await serve(host);
    const { out } = await mwarp(new FakeIo(test.env), "migrate", "web", "--to", "vm-b", "--detach");
    const waiting = mwarp(new FakeIo(test.env), "wait", out.trim(), "--json");
    host.engine.migrations[0]!.finish();
    expect(JSON.parse((await waiting).out)).toMatchObject({ id: out.trim(), outcome: "committed" });
  });

  it("prints the plan with --dry-run and starts nothing", async () => {
    const host = twoVms();
    await using test = await serve(host);
    const { status, out } = await mwarp(new FakeIo(test.env), "migrate", "web", "--to", "vm-b", "--dry-run");
    expect(status).toBe(0);
    expect(out).toBe(
      "would move web vm-a -> vm-b by warp (eager), 1.0 GiB of memory\n  1. prepare\n  2. dump\n",
    );
    expect(host.engine.migrations).toHaveLength(0);
  });

  it("that its daemon did not live to end is waited for until recovery has settled it", async () => {
    const host = twoVms();
    const settled = { migration: "m-1-000000", container: "web", vm: "vm-a", message: "web runs on vm-a" };
    host.engine.open.push({ ...settled, outcome: "aborted" });
    await using test = await serve(
      host,
      record("m-1-000000", { state: "running" }),
      record("m-2-000000", { state: "running" }),
    );
    const { status, err } = await mwarp(new FakeIo(test.env), "wait", "m-1-000000");
    expect([status, err]).toEqual([1, expect.stringContaining("web runs on vm-a")]);
    const open = await mwarp(new FakeIo(test.env), "wait", "m-2-000000");
    expect([open.status, open.err]).toEqual([8, expect.stringContaining("mwarp recover")]);
    const { out } = await mwarp(new FakeIo(test.env), "history");
    expect(out).toMatch(/m-1-000000 .* aborted \(recovered\)/);
    expect(out).toMatch(/m-2-000000 .* interrupted/);
  });

  it("shows its table with addresses in bytes, and as a document in pages", async () => {
    await using test = await serve(twoVms(), record("m-1-000000", { state: "done" }));
    const { status, out } = await mwarp(new FakeIo(test.env), "inspect", "m-1-000000", "--table");
    expect([status, out.split("\n")[1]]).toEqual([
      0,
      expect.stringMatching(/^1 +0x5000000 +3 +exclusive +exchange +0x7000 +0x9000$/),
    ]);
    const json = await mwarp(new FakeIo(test.env), "inspect", "m-1-000000", "--table", "--json");
    expect(JSON.parse(json.out)).toMatchObject({ id: "m-1-000000", runs: [{ page: 0x5000, pages: 3 }] });
  });

  const started = async (host: FakeHost): Promise<FakeMigration> => {
    await expect.poll(() => host.engine.migrations.length).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    return host.engine.migrations[0]!;
  };
});

describe("the daemon", () => {
  it("that cannot be started is reported with the last lines of its log", async () => {
    await using test = await serve(new FakeHost());
    const io = new FakeIo({ ...test.env, MWARP_RUN_DIR: `${test.directory}/none` });
    io.daemonCommand = ["sh", "-c", "echo no luck today; exit 9"];
    const { status, err } = await mwarp(io, "ps");
    expect(status).toBe(3);
    expect(err).toContain("no luck today");
    expect(err).toContain("status 9");
  });

  it("status tells its pid and ends with status 3 when there is none", async () => {
    await using test = await serve(new FakeHost());
    const running = await mwarp(new FakeIo(test.env), "daemon", "status", "--json");
    expect(JSON.parse(running.out)).toMatchObject({ pid: process.pid, busy: 0 });
    const none = await mwarp(new FakeIo({ MWARP_RUN_DIR: "/nonexistent" }), "daemon", "status");
    expect(none.status).toBe(3);
  });
});
