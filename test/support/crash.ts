/** Making things die at a chosen instant of a migration, and looking at what is left. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect } from "vitest";
import type { FaultPoint } from "../../src/migration/faults.js";
import type { TestLab } from "./lab.js";
import { Mwarp, type Running } from "./mwarp.js";
import { until } from "./wait.js";
import type { Workload } from "./workload.js";

export type Side = "source" | "destination";
export type Program = "agent" | "criu" | "runc";
type Fault = `${"kill" | "fail" | "hold"}:${FaultPoint}` | "unsafe:stale-table";

const HELD_MS = 60_000;

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
  async startAndHold(
    args: readonly string[],
    point: FaultPoint,
  ): Promise<Running & { readonly release: () => void }> {
    const held = `${this.#faults}.held`;
    this.arm(`hold:${point}`);
    const running = this.mwarp.start(["migrate", ...args]);
    await until(`the migration to reach ${point}`, () => (existsSync(held) ? true : undefined), {
      timeoutMs: HELD_MS,
      intervalMs: 20,
    });
    rmSync(this.#faults);
    return { ...running, release: () => rmSync(held) };
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

/** Tasks of a program in a VM's own process list, whether or not anyone lists them as a container. */
export async function tasksIn(lab: TestLab, vm: string, program: string): Promise<number> {
  const script = `ps -eo stat=,comm= | grep -v '^Z' | grep -cw ${program} || true`;
  return Number((await lab.guest(vm, "sh", "-c", script)).trim());
}

/**
 * One container, by the listing and by the process lists of all `vms` that live; its memory right; nothing of a migration left
 * in them; its link open. Gives the VM where it is.
 */
export async function expectOneOwner(workload: Workload, vms: readonly string[]): Promise<string> {
  const { lab } = workload;
  const vm = await workload.vm();
  const program = workload.program;
  for (const other of vms.filter((name) => name !== vm))
    await expect.poll(() => tasksIn(lab, other, program), { timeout: 15_000 }).toBe(0);
  expect(await tasksIn(lab, vm, program)).toBe(1);
  await workload.verify();
  for (const name of vms) {
    const leftovers =
      "ps -eo comm= | grep -xE 'criu|runc' || true; iptables-save 2>/dev/null | grep CRIU || true";
    await expect.poll(() => lab.guest(name, "sh", "-c", leftovers), { timeout: 15_000 }).toBe("");
  }
  return vm;
}
