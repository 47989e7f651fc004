/** Making things die, or stand still, at a chosen instant of a migration. What is left of it then: one-owner.ts. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { connectAgent } from "../../src/guest/index.js";
import type { FaultPoint } from "../../src/migration/faults.js";
import { VmListSchema } from "../../src/protocol/api.js";
import { startTimeOf, waitForExit } from "../../src/vm/process.js";
import { DaemonStatusSchema } from "./documents.js";
import type { TestLab } from "./lab.js";
import { type Finished, Mwarp, type Running } from "./mwarp.js";
import { until } from "./wait.js";

export type Side = "source" | "destination";
/** `mwarp-between` stands between runc and CRIU (native/guest/swrk.c). */
export type Program = "agent" | "criu" | "runc" | "mwarp-between";
type Fault = `${"kill" | "fail" | "hold"}:${FaultPoint}` | "unsafe:stale-table";

const HELD_MS = 150_000;
const DEAD_MS = 30_000;

/** A migration that stands still. */
export interface Held extends Running {
  readonly id: string;
  readonly release: () => void;
}

export class Crashes {
  /** Commands that start a daemon which obeys `arm`. */
  readonly mwarp: Mwarp;
  readonly #faults: string;

  constructor(readonly lab: TestLab) {
    this.#faults = path.join(lab.stateDir, "faults");
    this.mwarp = new Mwarp({ ...lab.mwarp.env, MWARP_FAULTS: this.#faults });
  }

  /** The daemon that runs by now was started without fault points: one that has them takes its place. */
  async begin(): Promise<void> {
    await this.lab.mwarp.ok(["daemon", "stop"]);
    await this.mwarp.ok(["ps"]);
  }

  arm(...faults: Fault[]): void {
    writeFileSync(this.#faults, faults.join("\n"));
  }

  disarm(): void {
    rmSync(this.#faults, { force: true });
    rmSync(`${this.#faults}.held`, { force: true });
  }

  /** Starts a migration and returns once it stands still at `point`. `release` lets it go on. */
  async startAndHold(args: readonly string[], point: FaultPoint): Promise<Held> {
    const held = `${this.#faults}.held`;
    this.arm(`hold:${point}`);
    const running = this.mwarp.start(["migrate", ...args]);
    let end: Finished | null = null;
    void running.finished.then((ended) => {
      end = ended;
    });
    try {
      await until(
        `the migration to reach ${point}`,
        () => {
          if (end !== null) throw new Error(`the migration ended before ${point}: ${JSON.stringify(end)}`);
          return existsSync(held) ? true : undefined;
        },
        { timeoutMs: HELD_MS, intervalMs: 20 },
      );
    } catch (error) {
      // The tests that follow are to fail by themselves only.
      this.disarm();
      throw error;
    }
    rmSync(this.#faults);
    const id = path.basename(path.dirname(this.lastJournalFile()));
    return { ...running, id, release: () => rmSync(held, { force: true }) };
  }

  /** SIGKILL to every process of `program` in a VM. Resolves when they are dead; fails when there must be one and is none. */
  async killIn(vm: string, program: Program, expected: "if any" | "one at least"): Promise<void> {
    if (program === "agent") return this.#killAgent(vm);
    // CRIU's parent may leave it a zombie for a while: that is dead enough.
    const script = `pkill -9 -x ${program} || echo none; for i in $(seq 100); do pgrep -r R,S,D,T -x ${program} >/dev/null || break; sleep 0.05; done`;
    const said = await this.lab.guest(vm, "sh", "-c", script);
    if (expected === "one at least") expect(said, `${program} to be killed in ${vm}`).not.toContain("none");
  }

  /** The agent that is killed cannot say so: the one that follows it has another pid. */
  async #killAgent(vm: string): Promise<void> {
    const pid = async (): Promise<string> =>
      (await this.lab.guest(vm, "sh", "-c", "pgrep -of agent[.]mjs")).trim();
    const before = await pid();
    await this.lab.guest(vm, "sh", "-c", `(sleep 0.2; kill -9 ${before}) >/dev/null 2>&1 </dev/null &`);
    await until(
      "the agent to be another",
      async () => {
        const now = await pid().catch(() => before);
        return now !== before ? true : undefined;
      },
      { timeoutMs: 60_000, intervalMs: 300 },
    );
  }

  /**
   * SIGSTOP to the CRIU that runs in a VM, or to the next one as soon as it is there. `goOn` sends SIGCONT, and fails when there
   * was none to stop.
   */
  async stopCriu(vm: string): Promise<{ goOn(): Promise<void> }> {
    const stop =
      "i=0; until pkill -STOP -r R,S,D -x criu || [ $i -gt 6000 ]; do i=$((i+1)); sleep 0.01; done";
    await this.lab.guest(vm, "sh", "-c", `(${stop}) >/dev/null 2>&1 </dev/null &`);
    return {
      goOn: async () => {
        const script = "pgrep -r T -x criu; pkill -CONT -x criu; true";
        expect(await this.lab.guest(vm, "sh", "-c", script), "CRIU that stood still").not.toBe("");
      },
    };
  }

  /** SIGSTOP to a VM's agent, and SIGCONT after that time: stopped, it can be told nothing. */
  async stopAgent(vm: string, seconds: number): Promise<void> {
    const pid = "$(pgrep -of agent[.]mjs)";
    const script = `p=${pid}; (sleep 0.2; kill -STOP $p; sleep ${seconds}; kill -CONT $p) >/dev/null 2>&1 </dev/null &`;
    await this.lab.guest(vm, "sh", "-c", script);
    // It has answered by then.
    await sleep(1000);
  }

  /**
   * Writes down, in a VM, whether the tasks of a container there are to be frozen ("1") or to run ("0"), until its group is gone.
   * A group without tasks does not count: runc thaws one before it removes it (libcontainer/state_linux.go, pausedState.destroy).
   */
  async watchFreezer(vm: string, name: string): Promise<{ values(): Promise<string[]> }> {
    const file = `/run/freezer-${name}`;
    const group = `/sys/fs/cgroup/mwarp/${name}`;
    // In this order: tasks that are there after the freezer was read were there before.
    const state = `f=$(cat ${group}/cgroup.freeze) && e=$(cat ${group}/cgroup.events)`;
    const say = `case "$e" in *"populated 1"*) echo $f;; esac`;
    const look = `while ${state}; do ${say}; sleep 0.02; done 2>/dev/null | uniq >${file}`;
    await this.lab.guest(vm, "sh", "-c", `(${look}) >/dev/null 2>&1 </dev/null &`);
    return {
      values: async () => (await this.lab.guest(vm, "cat", file)).split("\n").filter((line) => line !== ""),
    };
  }

  /** Of the VMM of that name. */
  async vmPid(name: string): Promise<number> {
    const { vms } = await this.lab.mwarp.json(VmListSchema, ["vm", "ls"]);
    const vm = vms.find((one) => one.name === name);
    if (vm === undefined) throw new Error(`there is no VM ${name}`);
    return vm.pid;
  }

  async daemonPid(): Promise<number> {
    return (await this.lab.mwarp.json(DaemonStatusSchema, ["daemon", "status"])).pid;
  }

  /** The journal that was written last. */
  lastJournalFile(): string {
    const directory = path.join(this.lab.stateDir, "migrations");
    return path.join(directory, readdirSync(directory).sort().at(-1)!, "journal");
  }

  lastJournal(): string {
    return readFileSync(this.lastJournalFile(), "utf8");
  }

  /** The last state that the last journal says. */
  lastState(): string | undefined {
    return [...this.lastJournal().matchAll(/"state":"(\w+)"/g)].at(-1)?.[1];
  }

  /** Runs recovery until nothing is left open. */
  async settle(): Promise<void> {
    this.disarm();
    await expect
      .poll(async () => (await this.mwarp.run(["recover"])).exit, { timeout: 90_000, interval: 500 })
      .toBe(0);
  }
}

/** SIGKILL to a VMM. Resolves when nothing of it is left: its memory takes a moment. */
export async function killVmm(pid: number): Promise<void> {
  const startTime = startTimeOf(pid);
  process.kill(pid, "SIGKILL");
  if (startTime !== null) expect(await waitForExit({ pid, startTime }, DEAD_MS)).toBe(true);
}

/** The dead-man helper that a daemon has started. */
export function deadManOf(daemonPid: number): number {
  return Number(execFileSync("pgrep", ["-P", String(daemonPid), "-f", "dead-man-main"]));
}

/**
 * What a VM's freezer does with a container, asked of the agent with no daemon between: a command of mWarp would start one. Null
 * when there is no such container, or when the agent does not answer because some daemon has its channel.
 */
export async function freezerIn(lab: TestLab, vm: string, name: string): Promise<"frozen" | "runs" | null> {
  const socket = path.join(lab.runDir, "vms", vm, "agent.sock");
  const agent = await connectAgent(socket, { timeoutMs: 2_000 }).catch(() => null);
  if (agent === null) return null;
  try {
    let text = "";
    const onChunk = (data: Uint8Array): void => {
      text += Buffer.from(data).toString();
    };
    const argv = ["cat", `/sys/fs/cgroup/mwarp/${name}/cgroup.events`];
    await agent.call("guest.exec", { argv }, { onChunk });
    if (!text.includes("populated 1")) return null;
    return text.includes("frozen 1") ? "frozen" : "runs";
  } finally {
    agent.close();
  }
}
