/** A container with a terminal: its session, and whoever is attached to it, go on as if it had not moved. */
import { describe, expect, it } from "vitest";
import { Attached, Person } from "../support/attached.js";
import { Crashes } from "../support/crash.js";
import { PsSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { until } from "../support/wait.js";

const host = useLab({ memory: "640M" });
const run = (name: string, ...argv: string[]): Promise<string> =>
  host.lab.mwarp.ok([
    "run",
    "-t",
    "--vm",
    "vm-a",
    "--name",
    name,
    "--rootfs",
    host.lab.rootfs,
    "--",
    ...argv,
  ]);
const migrate = (name: string, vm: string, ...options: string[]): Promise<string> =>
  host.lab.mwarp.ok(["migrate", name, "--to", vm, ...options]);
const remove = (name: string): Promise<string> => host.lab.mwarp.ok(["rm", "-f", name]);

/** The numbers that the job in the background has counted; what is typed is echoed before or behind one, on its line. */
const counted = (said: string): number[] => [...said.matchAll(/count (\d+)/g)].map(([, n]) => Number(n));
const inARow = (length: number): number[] => Array.from({ length }, (_, i) => i + 1);

/** What the job in the foreground says of its terminal. */
async function state(at: Attached): Promise<string> {
  const known = at.said.match(/^state .*$/gm)?.length ?? 0;
  await at.signal("terminal", "USR1");
  return until("the state", async () => at.said.match(/^state .*\r$/gm)?.[known], {
    timeoutMs: 60_000,
    intervalMs: 50,
  });
}

describe("a terminal", () => {
  it.each([
    {
      mode: "lines",
      typed: ["one\rtw\x7fwo\r\x04ha", "lf\r"],
      read: "read one%0a\r\nread two%0a\r\nread \r\nread half%0a\r\n",
      moves: ["vm-b", "vm-a"],
    },
    { mode: "keys", typed: ["a\r\x04b", "\x7f"], read: "read a%0d%04b%7f\r\n", moves: ["vm-b"] },
  ])(
    "moves with its settings, its session and what is unread: $mode",
    async ({ mode, typed, read, moves }) => {
      await run(mode, "terminal", mode);
      await using at = new Attached(host.lab, mode);
      await at.saying(/terminal ready/);
      at.window({ rows: 33, columns: 99 });
      await at.saying(/window 33 99/);
      at.type(typed[0] as string);
      const before = await state(at);
      expect(before).toMatch(/group=(\d+) foreground=\1 session=1 terminal=\/dev\/pts\/0 .* size=33x99/);
      for (const vm of moves) {
        await migrate(mode, vm);
        expect(await state(at)).toBe(before);
      }
      at.type(typed[1] as string);
      await host.lab.mwarp.ok(["exec", mode, "--", "touch", "/go"]);
      await at.saying(/read /);
      at.window({ rows: 50, columns: 132 });
      await at.saying(/window 50 132/);
      at.type("\x03");
      const [, job] = /pid=(\d+)/.exec(before) ?? [];
      await at.saying(new RegExp(`interrupt ${job}\r`));
      at.type(mode === "keys" ? "quit 5" : "quit 5\r");
      expect(await at.ended).toBe(5);
      const said = at.said.replaceAll(/count \d+(\r\n)?/g, "");
      expect(said).toContain(read);
      // Nobody but the job was interrupted, and it once.
      expect(said.match(/interrupt/g)).toHaveLength(1);
      expect(counted(at.said)).toEqual(inARow(counted(at.said).length));
      expect(at.vms).toEqual(["vm-a", ...moves]);
      expect(await host.lab.mwarp.ok(["logs", mode])).toBe(at.said);
      await remove(mode);
    },
  );

  it("has what is unread after a move that was rolled back, and takes what is typed meanwhile", async () => {
    const crashes = new Crashes(host.lab);
    await crashes.begin();
    await run("back", "terminal", "lines");
    await using at = new Attached(host.lab, "back");
    await at.saying(/terminal ready/);
    at.type("before\rbe");
    const before = await state(at);
    const held = await crashes.startAndHold(["back", "--to", "vm-b"], "held");
    at.type("gun, and ended\r");
    crashes.arm("fail:populated");
    held.release();
    expect((await held.finished).exit).toBe(1);
    crashes.disarm();
    expect(await state(at)).toBe(before);
    await host.lab.mwarp.ok(["exec", "back", "--", "touch", "/go"]);
    await at.saying(/read before%0a\r\nread begun,%20and%20ended%0a\r\n/);
    expect(at.vms).toEqual(["vm-a"]);
    await remove("back");
  });
});

describe("a shell on a terminal", () => {
  it("moves at its prompt by either method, and is refused by name where CRIU would fail or take a job's terminal away", async () => {
    await run("shell", "sh", "-i");
    await using at = new Attached(host.lab, "shell");
    await at.saying(/# /);
    at.type("sleep 1000\r");
    await until(
      "the job",
      async () =>
        (await host.lab.mwarp.run(["exec", "shell", "--", "pidof", "sleep"])).exit === 0 || undefined,
      { timeoutMs: 20_000, intervalMs: 200 },
    );
    const { exit, error } = await host.lab.mwarp.refusal(["migrate", "shell", "--to", "vm-b"]);
    expect({ exit, code: error.code }).toEqual({ exit: 5, code: "MWARP_E_UNSUPPORTED" });
    expect(error.message).toMatch(/pid 1 fd \d+: \/dev\/tty while a job is in the foreground/);
    at.type("\x03");
    await at.saying(/\^C\r\n/);
    at.type("sleep 2000 & x=$((6*7)); echo set\r");
    await at.saying(/^set\r\n/m);
    const cold = await host.lab.mwarp.refusal(["migrate", "shell", "--to", "vm-b", "--method", "cold"]);
    expect(cold.error.message).toMatch(/CRIU by itself would take away pid \d+: the terminal of its session/);
    await migrate("shell", "vm-b");
    at.type("kill %1; wait; echo is $x\r");
    await at.saying(/is 42\r\n/);
    await migrate("shell", "vm-a", "--method", "cold");
    at.type("echo begun; sleep 1000; echo ended > /dev/tty\r");
    await at.saying(/^begun\r\n/m);
    at.type("\x03");
    await at.saying(/^begun\r\n\^C/m);
    at.type("exit 3\r");
    expect(await at.ended).toBe(3);
    await remove("shell");
  });
});

describe("a container with a terminal and a restart policy", () => {
  it("has a terminal again when it is started again", async () => {
    const { lab } = host;
    const flags = ["run", "-t", "--restart", "on-failure:1", "--vm", "vm-a", "--name", "again"];
    const script = "echo size $(stty size < /dev/tty); read word; exit 4";
    await lab.mwarp.ok([...flags, "--rootfs", lab.rootfs, "--", "sh", "-c", script]);
    await using one = new Attached(lab, "again");
    await one.saying(/size 24 80/);
    one.type("end\r");
    await until(
      "its restart",
      async () => {
        const { containers } = await lab.daemon.containers();
        const found = containers.find(({ container }) => container.spec.name === "again")?.container;
        return (found?.status === "running" && found.restart.count === 1) || undefined;
      },
      { timeoutMs: 60_000, intervalMs: 300 },
    );
    await using two = new Attached(lab, "again");
    await two.saying(/size 24 80[\s\S]*size 24 80/);
    two.type("end\r");
    expect(await two.ended).toBe(4);
    await remove("again");
  });
});

describe("mwarp run -it and attach", () => {
  it("has the size of the window, detaches by ctrl-p ctrl-q, and attached again ends with the container's exit code", async () => {
    const { lab } = host;
    const flags = ["run", "-it", "--vm", "vm-a", "--name", "it", "--rootfs", lab.rootfs, "--"];
    const one = new Person(lab.mwarp, "stty rows 41 cols 111", [...flags, "sh", "-i"]);
    await one.saying(/# /);
    one.type("stty size\r");
    await one.saying(/41 111/);
    one.type("\x10\x11");
    expect(await one.exit).toBe(0);
    expect(one.said).toContain("detached; ");
    const listed = await lab.mwarp.json(PsSchema, ["ps"]);
    expect(listed.containers.find(({ name }) => name === "it")?.status).toBe("running");
    const two = new Person(lab.mwarp, "stty rows 30 cols 90", ["attach", "it"]);
    // The prompt that waits is seen again.
    await two.saying(/# /);
    two.type("stty size; exit 6\r");
    expect(await two.exit).toBe(6);
    expect(two.said).toContain("30 90");
    await remove("it");
  });
});
