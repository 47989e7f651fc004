/** What a container and its processes are set to, what they say and by which clock they live is the same after a move. */
import path from "node:path";
import { describe, expect, it } from "vitest";
import { PsSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { limitFiles, writeSettingsBundle } from "../support/settings-bundle.js";
import { until } from "../support/wait.js";
import { Workload } from "../support/workload.js";

/** With four virtual processors there, what a task knows of its processor is wrong on the way back. */
const host = useLab({ memory: "768M", overrides: { "vm-b": { cpus: 4 } } });
const exec = (name: string, ...argv: string[]): Promise<string> =>
  host.lab.mwarp.ok(["exec", name, "--", ...argv]);

/** What the control group of a container says of its limits. */
const limitsOf = (vm: string, name: string): Promise<string> =>
  host.lab.guest(
    vm,
    "sh",
    "-ec",
    `cd /sys/fs/cgroup/mwarp/${name}; for file in ${limitFiles.join(" ")}; do echo $file $(cat $file); done`,
  );

describe("the settings of a container", () => {
  it("and of each of its tasks are after a move what they were before, and do what they did", async () => {
    const bundle = writeSettingsBundle(path.join(host.lab.stateDir, "settings"), host.lab.rootfs);
    await host.lab.mwarp.ok(["run", "--vm", "vm-a", "--name", "set", "--bundle", bundle]);
    const set = new Workload(host.lab, "set", "settings");
    const verdicts = async (): Promise<string[]> =>
      (await set.lines()).filter((line) => / (verify|BAD) /.test(line));
    await until(
      "settings to be ready",
      async () => (await set.lines()).find((line) => line.includes(" ready ")),
      { timeoutMs: 60_000, intervalMs: 500 },
    );
    const before = await limitsOf("vm-a", "set");
    expect(before).toContain("memory.high 157286400\n");
    expect(before).toContain("cpu.max 80000 100000\n");
    await set.migrate("vm-b");
    await exec("set", "kill", "-USR1", "1");
    const said = await until(
      "three tasks to have looked again",
      async () => {
        const all = await verdicts();
        return all.filter((line) => line.includes(" verify ")).length >= 3 ? all : undefined;
      },
      { timeoutMs: 60_000, intervalMs: 500 },
    );
    expect(said.filter((line) => line.includes("BAD"))).toEqual([]);
    expect(await limitsOf("vm-b", "set")).toBe(before);
    await set.remove();
  });
});

describe("clocks and timers", () => {
  it("go on in a process executed in a container that had moved, and moves again with it", async () => {
    const clocks = await Workload.run(host.lab, "vm-b", "clocks", ["clocks"]);
    await exec("clocks", "clocks", "/before");
    await clocks.migrate("vm-a");
    await exec("clocks", "clocks", "/between");
    // From here on each has only what has ticked since.
    const ask = () => exec("clocks", "sh", "-c", "for pid in $(pidof clocks); do kill -USR1 $pid; done");
    await ask();
    await clocks.migrate("vm-b");
    await ask();
    await ask();
    for (const read of [
      async () => (await clocks.lines()).join("\n"),
      () => exec("clocks", "cat", "/before"),
      () => exec("clocks", "cat", "/between"),
    ]) {
      const verdicts = await until(
        "clocks to have looked",
        async () => {
          const found = (await read()).match(/^verify .*$/gm) ?? [];
          return found.length >= 3 ? found : undefined;
        },
        { timeoutMs: 60_000, intervalMs: 300 },
      );
      expect(verdicts.filter((line) => !line.startsWith("verify ok"))).toEqual([]);
    }
    await clocks.remove();
  });
});

describe("what a container says", () => {
  it("comes whole: no line is lost, doubled or cut by moves in the midst of it", async () => {
    const script =
      'i=0; while :; do i=$((i+1)); echo line $i; printf "begun $i"; echo " ended" >&2; echo " ended"; [ $((i % 40)) = 0 ] && sleep 0.1; done';
    const { lab } = host;
    const loud = await Workload.start(lab, "vm-a", "loud", ["sh", "-c", script]);
    const count = async (): Promise<number> => (await loud.lines()).length;
    for (const vm of ["vm-b", "vm-a"]) {
      const before = await count();
      await loud.migrate(vm);
      await until("more lines", async () => ((await count()) > before + 500 ? true : undefined), {
        timeoutMs: 60_000,
        intervalMs: 300,
      });
    }
    const out: string[] = [];
    const err: string[] = [];
    for await (const { stream, text } of lab.daemon.logs("loud", { follow: false, tail: null }))
      (stream === "stderr" ? err : out).push(text);
    // The last of each may be under way.
    const expected = out.map((_, i) => (i % 2 === 0 ? `line ${i / 2 + 1}` : `begun ${(i + 1) / 2} ended`));
    expect(
      out
        .slice(0, -1)
        .filter((line, i) => line !== expected[i])
        .slice(0, 3),
    ).toEqual([]);
    expect(new Set(err)).toEqual(new Set([" ended"]));
    expect(Math.abs(out.length - 2 * err.length)).toBeLessThanOrEqual(2);
    await loud.remove();
  });

  it("last, and its exit code, is known of one that ends after a move", async () => {
    const { lab } = host;
    const script = "trap 'echo bye; exit 41' USR1; echo up; while :; do sleep 0.2; done";
    const ends = await Workload.start(lab, "vm-a", "ends", ["sh", "-c", script]);
    await ends.migrate("vm-b");
    await exec("ends", "kill", "-USR1", "1");
    const ended = await until(
      "its end",
      async () => {
        const { containers } = await lab.mwarp.json(PsSchema, ["ps"]);
        const found = containers.find(({ name }) => name === "ends");
        return found?.status === "stopped" ? found : undefined;
      },
      { timeoutMs: 30_000, intervalMs: 300 },
    );
    expect(ended).toMatchObject({ vm: "vm-b", exit_code: 41 });
    expect(await ends.lines()).toEqual(["up", "bye"]);
    await ends.remove();
  });
});
