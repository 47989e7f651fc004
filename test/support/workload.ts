/** A workload of test/workloads in a container: its lines, its verdicts, its moves. */
import { expect } from "vitest";
import type { ContainerListing } from "../../src/protocol/api.js";
import type { ContainerSpec } from "../../src/protocol/container.js";
import { type MigrationReport, MigrationReportSchema } from "../../src/protocol/migration.js";
import type { TestLab } from "./lab.js";
import { until } from "./wait.js";

const READY_MS = 120_000;
const VERIFY_MS = 120_000;

export class Workload {
  /** @param program its name in a process list */
  constructor(
    readonly lab: TestLab,
    readonly name: string,
    readonly program = name,
  ) {}

  /** Starts `argv` as the container `name` in `vm` and waits until it says that it is ready. */
  static async run(
    lab: TestLab,
    vm: string,
    name: string,
    argv: readonly string[],
    extra: readonly string[] = [],
  ): Promise<Workload> {
    return (await Workload.start(lab, vm, name, argv, extra)).#ready();
  }

  /** The same with a program that does not say when it is ready. */
  static async start(
    lab: TestLab,
    vm: string,
    name: string,
    argv: readonly string[],
    extra: readonly string[] = [],
  ): Promise<Workload> {
    await lab.mwarp.ok(["run", "--vm", vm, "--name", name, "--rootfs", lab.rootfs, ...extra, "--", ...argv]);
    return new Workload(lab, name, argv[0]);
  }

  /** The same from an OCI bundle, whose command is the workload `program`. */
  static async runBundle(
    lab: TestLab,
    vm: string,
    name: string,
    bundle: string,
    program = "pattern",
  ): Promise<Workload> {
    await lab.mwarp.ok(["run", "--vm", vm, "--name", name, "--bundle", bundle]);
    return new Workload(lab, name, program).#ready();
  }

  async #ready(): Promise<this> {
    await until(
      `${this.name} to be ready`,
      async () => (await this.lines()).find((line) => / ready( |$)/.test(line)),
      {
        timeoutMs: READY_MS,
        intervalMs: 500,
      },
    );
    return this;
  }

  async lines(): Promise<string[]> {
    const lines: string[] = [];
    for await (const { text } of this.lab.daemon.logs(this.name, { follow: false, tail: null }))
      lines.push(text);
    return lines;
  }

  /** Asks the program to look at all of its memory, and fails unless it finds every page right. Gives its answer. */
  async verify(): Promise<string> {
    const verdicts = async (): Promise<string[]> =>
      (await this.lines()).filter((line) => line.includes("verify "));
    const before = (await verdicts()).length;
    const request = { argv: ["kill", "-USR1", "1"], env: [], cwd: null };
    expect(await this.lab.daemon.exec(this.name, request, { stdin: null, write: () => undefined })).toBe(0);
    const fresh = await until(
      `${this.name} to verify`,
      async () => {
        const all = await verdicts();
        return all.length > before ? all.slice(before) : undefined;
      },
      { timeoutMs: VERIFY_MS, intervalMs: 300 },
    );
    expect(fresh.join("\n")).not.toContain("BAD");
    return fresh.join("\n");
  }

  /** From now on it works with what the agent, runc and CRIU leave of its VM's processor, until it moves. */
  async giveWay(): Promise<void> {
    const groups = `/sys/fs/cgroup/mwarp /sys/fs/cgroup/mwarp/${this.name}`;
    const script = `for group in ${groups}; do echo 1 > $group/cpu.weight; done`;
    await this.lab.guest(await this.vm(), "sh", "-ec", script);
  }

  /** Name of the VM on which the container runs, by the listing; fails when it is on none or on two. */
  async vm(): Promise<string> {
    return (await this.#listing()).vm;
  }

  /** The container's record, which every VM it visits has the same. */
  async spec(): Promise<ContainerSpec> {
    return (await this.#listing()).container.spec;
  }

  async #listing(): Promise<ContainerListing> {
    // On none, says a listing, while a guest under load missed its time limit: that one may have it.
    const mine = await until(
      `a listing that says where ${this.name} is`,
      async () => {
        const { containers, unreachable } = await this.lab.daemon.containers();
        const named = containers.filter(({ container }) => container.spec.name === this.name);
        return named.length > 0 || unreachable.length === 0 ? named : undefined;
      },
      { timeoutMs: 60_000, intervalMs: 500 },
    );
    expect(mine.map(({ container }) => container.status)).toEqual(["running"]);
    return mine[0];
  }

  /** Migrates and checks what every committed report must say. */
  async migrate(to: string, extra: readonly string[] = []): Promise<MigrationReport> {
    const report = await this.lab.mwarp.json(
      MigrationReportSchema,
      ["migrate", this.name, "--to", to, ...extra],
      {
        timeoutMs: 170_000,
      },
    );
    expect(report).toMatchObject({ outcome: "committed", error: null, container: this.name, to });
    expect(await this.vm()).toBe(to);
    return report;
  }

  remove(): Promise<string> {
    return this.lab.mwarp.ok(["rm", "-f", this.name]);
  }
}
