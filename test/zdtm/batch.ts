/** One container with several of CRIU's test programs in it: started, moved there and back, asked to verify. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { makeOciConfig } from "../../src/container/oci.js";
import type { DaemonClient } from "../../src/daemon/client.js";
import { isMwarpError } from "../../src/errors.js";
import { type MigrationReport, MigrationReportSchema } from "../../src/protocol/migration.js";
import type { Mwarp } from "../support/mwarp.js";
import { until } from "../support/wait.js";

const START_MS = 120_000;
const MOVE_MS = 300_000;
const VERIFY_MS = 180_000;
const REMOVE_MS = 180_000;

/** "ordinary": as `mwarp run --rootfs` makes it. "privileged": every capability, and nothing of /proc masked. */
export type Profile = "ordinary" | "privileged";

export interface World {
  readonly mwarp: Mwarp;
  readonly daemon: DaemonClient;
  /** Root file system with the programs (tree.ts). */
  readonly tree: string;
  /** Scratch directory. */
  readonly base: string;
}

/** What became of one program. */
export interface Verdict {
  readonly name: string;
  readonly outcome: "unstarted" | "passed" | "failed";
  /** The program's own words, when it did not pass. */
  readonly text: string;
}

/** What became of the container. */
export interface BatchResult {
  readonly verdicts: readonly Verdict[];
  /** Null when it was moved every time. */
  readonly stopped: null | {
    readonly outcome: "refused" | "failed";
    readonly move: number;
    readonly text: string;
  };
  readonly downtimesMs: readonly number[];
}

const CONTAINER = "zdtm";

async function lines(world: World): Promise<string[]> {
  const found: string[] = [];
  for await (const { text } of world.daemon.logs(CONTAINER, { follow: false, tail: null })) found.push(text);
  return found;
}

async function untilLine(world: World, start: string, timeoutMs: number): Promise<void> {
  await until(
    `"${start}" in the container's log`,
    async () => (await lines(world)).find((line) => line.startsWith(start)),
    { timeoutMs, intervalMs: 500 },
  );
}

const capabilities =
  "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
    .split(" ")
    .map((name) => `CAP_${name}`);

/** A bundle like the ordinary container's configuration, less what keeps programs away from the kernel. */
function writePrivileged(world: World, argv: readonly string[]): string {
  const config = makeOciConfig({
    argv,
    env: [],
    cwd: "/",
    hostname: CONTAINER,
    memoryLimitBytes: null,
    terminal: null,
  });
  const {
    maskedPaths: _masked,
    readonlyPaths: _readonly,
    seccomp: _filter,
    ...linux
  } = config.linux as Record<string, unknown>;
  const process = {
    ...(config.process as object),
    noNewPrivileges: false,
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
  };
  const directory = path.join(world.base, "bundle");
  mkdirSync(directory, { recursive: true });
  const document = { ...config, process, root: { path: world.tree }, linux };
  writeFileSync(path.join(directory, "config.json"), JSON.stringify(document));
  return directory;
}

export async function startBatch(
  world: World,
  names: readonly string[],
  profile: Profile,
): Promise<Verdict[]> {
  const argv = ["zdtm-init", ...names];
  const what =
    profile === "ordinary"
      ? ["--rootfs", world.tree, "--", ...argv]
      : ["--bundle", writePrivileged(world, argv)];
  await world.mwarp.ok(["run", "--vm", "vm-a", "--name", CONTAINER, ...what]);
  await untilLine(world, "zdtm-init ready ", START_MS);
  return verdictsOf(await lines(world), "unstarted");
}

function verdictsOf(log: readonly string[], ...outcomes: Verdict["outcome"][]): Verdict[] {
  return log.flatMap((line) => {
    const [, name, outcome, text = ""] = /^(\S+) (unstarted|passed|failed)(?: (.*))?$/.exec(line) ?? [];
    const known = outcomes.find((one) => one === outcome);
    return name === undefined || known === undefined ? [] : [{ name, outcome: known, text }];
  });
}

export async function verifyBatch(world: World): Promise<Verdict[]> {
  const request = { argv: ["kill", "-USR1", "1"], env: [], cwd: null };
  await world.daemon.exec(CONTAINER, request, { stdin: null, write: () => undefined });
  await untilLine(world, "zdtm-init verified", VERIFY_MS);
  return verdictsOf(await lines(world), "unstarted", "passed", "failed");
}

/** In one line: what the report says, and the first that CRIU called an error. */
function reasonOf(error: MigrationReport["error"], stderr: string): string {
  if (error === null) return stderr.trim();
  const first = error.details.find((line) => / Error \(/.test(line)) ?? "";
  return `${error.code}: ${error.message} ${first.replace(/^\([\d.]+\)\s+(\d+: )?/, "")}`.trim();
}

const passing: ReadonlySet<string> = new Set([
  "MWARP_E_AGENT_UNREACHABLE",
  "MWARP_E_TIMEOUT",
  "MWARP_E_BUSY",
]);

/** Guests that have all hands full may not answer at first. */
export async function removeBatch(world: World): Promise<void> {
  await until(
    "the guests to answer, and the container to be removed",
    async () => {
      try {
        await world.daemon.removeIfThere(CONTAINER);
        return true;
      } catch (error) {
        if (isMwarpError(error) && passing.has(error.code)) return undefined;
        throw error;
      }
    },
    { timeoutMs: REMOVE_MS, intervalMs: 2000 },
  );
}

/** @param targets the VMs that it is moved to, one after the other; it starts in vm-a */
export async function runBatch(
  world: World,
  names: readonly string[],
  profile: Profile,
  targets: readonly string[] = ["vm-b", "vm-a"],
): Promise<BatchResult> {
  try {
    const unstarted = await startBatch(world, names, profile);
    const downtimesMs: number[] = [];
    if (unstarted.length === names.length) return { verdicts: unstarted, stopped: null, downtimesMs };
    for (const [move, to] of targets.entries()) {
      const end = await world.mwarp.run(["migrate", CONTAINER, "--to", to, "--json"], { timeoutMs: MOVE_MS });
      if (end.exit === -1)
        return {
          verdicts: unstarted,
          downtimesMs,
          stopped: { outcome: "failed", move, text: `no end in ${MOVE_MS} ms` },
        };
      const document: unknown = JSON.parse(end.stdout);
      const report = MigrationReportSchema.safeParse(document);
      if (!report.success || report.data.outcome !== "committed") {
        const refused = end.exit === 5;
        const text = reasonOf(report.data?.error ?? null, end.stderr);
        return {
          verdicts: unstarted,
          downtimesMs,
          stopped: { outcome: refused ? "refused" : "failed", move, text },
        };
      }
      downtimesMs.push(Math.round(report.data.time_ms.downtime ?? 0));
    }
    return { verdicts: await verifyBatch(world), stopped: null, downtimesMs };
  } finally {
    await removeBatch(world);
  }
}
