/** A lab of a test's own: started before its tests, taken down after them, with nothing left behind. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { DaemonClient } from "../../src/daemon/client.js";
import type { VmOverride } from "../../src/lab/options.js";
import { daemonSocket } from "../../src/paths.js";
import { VmListSchema } from "../../src/protocol/api.js";
import { type LabStatus, LabStatusSchema } from "./documents.js";
import { comparable, type HostState, hostState } from "./host-state.js";
import { Mwarp, projectRoot } from "./mwarp.js";
import { labProcesses } from "./processes.mjs";
import { makeRootfs } from "./rootfs.js";
import { until } from "./wait.js";

const UP_MS = 230_000;
const AGENTS_MS = 60_000;
const DOWN_MS = 60_000;

export interface LabOptions {
  vms?: number;
  /** Memory of each VM: "512M", "2G". */
  memory?: string;
  backing?: "auto" | "4k" | "thp" | "hugetlb";
  /** Older spelling of `backing`. */
  hugepages?: "auto" | "on" | "off";
  /** By VM name: private memory, no preloaded library, more arguments for QEMU. */
  overrides?: Readonly<Record<string, Partial<VmOverride>>>;
}

export class TestLab {
  readonly mwarp: Mwarp;
  /** The daemon without the command line, for what is asked often. Works once any command has started the daemon. */
  readonly daemon: DaemonClient;
  /** Root file system with busybox and the workloads, for `mwarp run --rootfs`. */
  readonly rootfs: string;
  private readonly reaper;
  private readonly before: HostState;

  /** Directories only; nothing runs before `up`. */
  constructor(private readonly base = mkdtempSync(path.join(tmpdir(), "mwt-"))) {
    // The directory of the test itself is there already, and must be gone at the end.
    this.before = { ...hostState(this.name), temporary: [] };
    // What a killed daemon leaves among temporary files goes with the lab.
    const directories = { MWARP_STATE_DIR: path.join(base, "state"), TMPDIR: base };
    this.mwarp = new Mwarp({ MWARP_RUN_DIR: this.runDir, ...directories });
    this.daemon = new DaemonClient(daemonSocket(this.mwarp.env));
    this.rootfs = path.join(base, "rootfs");
    this.reaper = spawn(
      process.execPath,
      [path.join(projectRoot, "test/support/reaper.mjs"), base, path.join(projectRoot, "bin/mwarp")],
      { stdio: ["pipe", "ignore", "ignore"], detached: true },
    );
    this.reaper.unref();
    makeRootfs(this.rootfs);
  }

  /** Tells this lab's network namespace from any other lab's. */
  get name(): string {
    return path.basename(this.base).toLowerCase();
  }

  get runDir(): string {
    return path.join(this.base, "run");
  }

  get stateDir(): string {
    return path.join(this.base, "state");
  }

  /** Brings the lab up and waits until every agent answers. */
  async up(options: LabOptions = {}): Promise<void> {
    const child = spawn(
      process.execPath,
      [path.join(projectRoot, "test/support/lab-up.mjs"), JSON.stringify({ name: this.name, ...options })],
      { env: { ...process.env, ...this.mwarp.env }, stdio: ["ignore", "ignore", "pipe"] },
    );
    let said = "";
    child.stderr.on("data", (text: Buffer) => {
      said += text.toString();
    });
    const [code] = await once(child, "close");
    if (code !== 0) throw new Error(`the lab did not come up (${code}):\n${said}`);
    await this.ready();
  }

  /** Waits until every agent answers. */
  async ready(): Promise<void> {
    await until(
      "the agents to answer",
      async () => {
        const { vms } = await this.mwarp.json(VmListSchema, ["vm", "ls"]);
        return vms.every((vm) => vm.state === "ready") ? true : undefined;
      },
      { timeoutMs: AGENTS_MS, intervalMs: 500 },
    );
  }

  /** What mWarp wrote down about this lab. */
  status(): Promise<LabStatus> {
    return this.mwarp.json(LabStatusSchema, ["lab", "status"]);
  }

  /** Runs a command as root in a guest, without a container. */
  guest(vm: string, ...argv: string[]): Promise<string> {
    return this.mwarp.ok(["vm", "exec", vm, "--", ...argv]);
  }

  /** Takes everything down; throws when something is left. */
  async down(): Promise<void> {
    await this.mwarp.ok(["lab", "down"], { timeoutMs: DOWN_MS });
    expect(labProcesses(this.runDir), "processes left by lab down").toEqual([]);
    expect(
      existsSync(this.runDir) ? readdirSync(this.runDir) : [],
      "files left in the run directory",
    ).toEqual([]);
    this.reaper.stdin.end("done");
    rmSync(this.base, { recursive: true, force: true });
    expect(comparable(hostState(this.name), this.before), "state of the host").toEqual(
      comparable(this.before, hostState(this.name)),
    );
  }

  /** Copies logs and consoles to test-results/NAME. */
  keepLogs(name: string): void {
    const target = path.join(projectRoot, "test-results", name.replaceAll(/[^\w.-]+/g, "-").slice(0, 100));
    rmSync(target, { recursive: true, force: true });
    mkdirSync(target, { recursive: true });
    for (const [from, to] of [
      [this.runDir, "run"],
      [path.join(this.base, "state"), "state"],
    ]) {
      if (!existsSync(from)) continue;
      const regular = (file: string): boolean =>
        /\.(log|json|journal|ndjson|txt)$/.test(file) || !path.extname(file);
      cpSync(from, path.join(target, to), { recursive: true, filter: regular, errorOnExist: false });
    }
  }
}

/** Copies the lab's logs aside after each test that failed. */
export function keepLogsOfFailures(lab: () => TestLab | undefined): void {
  afterEach(({ task }) => {
    if (task.result?.state === "fail") lab()?.keepLogs(task.name);
  });
}

/** A lab for all tests of a file. Read `.lab` inside tests only. */
export function useLab(options: LabOptions = {}): { readonly lab: TestLab } {
  let lab: TestLab | undefined;
  beforeAll(async () => {
    lab = new TestLab();
    try {
      await lab.up(options);
    } catch (error) {
      lab.keepLogs("lab-up");
      throw error;
    }
  }, UP_MS + 10_000);
  keepLogsOfFailures(() => lab);
  afterAll(() => lab?.down(), DOWN_MS * 2);
  return {
    get lab(): TestLab {
      if (!lab) throw new Error("the lab is up inside tests only");
      return lab;
    },
  };
}
