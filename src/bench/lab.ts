/** A lab of the benchmark's own: in directories of its own, so that a lab that the user has up is left alone. */
import { createHash } from "node:crypto";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { DaemonClient } from "../daemon/client.js";
import { type LabProgress, type LabStatus, labDown, labUp } from "../lab/index.js";
import { runDir, stateDir } from "../paths.js";
import { type ContainerHost, makeRootfs } from "./container.js";
import { releaseLeftPages } from "./huge-pages.js";
import type { Backing } from "./records.js";

const VMS = 2;
export const GUEST_CPUS = 1;

/** What the command line lends: everything that starts or ends a daemon is its job. */
export interface DaemonKeeper {
  /** A client of the daemon, which is started when none runs. */
  daemon(): Promise<DaemonClient>;
  /** Ends the daemon when it has no VM left. */
  stopUnusedDaemon(): Promise<void>;
}

export interface BenchLab extends ContainerHost {
  readonly status: LabStatus;
  readonly backing: Backing;
}

/** The directories of a benchmark's labs, beside those of the user. */
export interface Place {
  readonly runDir: string;
  readonly stateDir: string;
  /** Name of its labs, for what is not in a directory: the network namespace. */
  readonly name: string;
}

export function placeBeside(userRunDir = runDir(), userStateDir = stateDir()): Place {
  const tail = createHash("sha256").update(userRunDir).digest("hex").slice(0, 8);
  return { runDir: `${userRunDir}-bench`, stateDir: `${userStateDir}-bench`, name: `bench-${tail}` };
}

/**
 * Points this process, and the daemon it starts, to the directories of the benchmark until the result is disposed of. Every path
 * of mWarp follows from these two variables (paths.ts), and this process does nothing else meanwhile.
 */
export function moveTo(place: Place): Disposable {
  const before = { MWARP_RUN_DIR: process.env.MWARP_RUN_DIR, MWARP_STATE_DIR: process.env.MWARP_STATE_DIR };
  process.env.MWARP_RUN_DIR = place.runDir;
  process.env.MWARP_STATE_DIR = place.stateDir;
  return {
    [Symbol.dispose]: () => {
      for (const [name, value] of Object.entries(before)) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    },
  };
}

export interface WithLabOptions {
  readonly place: Place;
  readonly backing: Backing;
  readonly memoryBytes: number;
  readonly keeper: DaemonKeeper;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: LabProgress) => void;
}

/** Runs `work` with a lab that is up, and takes the lab down whatever becomes of it. */
export async function withLab<T>(options: WithLabOptions, work: (lab: BenchLab) => Promise<T>): Promise<T> {
  const { place, backing, keeper, signal, onProgress } = options;
  try {
    const { status } = await labUp(
      {
        name: place.name,
        vms: VMS,
        memory: options.memoryBytes,
        cpus: GUEST_CPUS,
        backing,
        // Else a figure would hold what it costs the host to make memory that no move has touched before.
        allocation: "ahead",
      },
      { signal, onProgress },
    );
    const daemon = await keeper.daemon();
    const names = status.vms.map(({ endpoint }) => endpoint.name);
    await daemon.agentsReady(names, signal);
    mkdirSync(place.stateDir, { recursive: true });
    const rootfs = join(place.stateDir, "bench-rootfs");
    await makeRootfs(status.rootfs.busybox, rootfs, signal);
    return await work({ daemon, netns: `/run/netns/${status.namespace}`, rootfs, status, backing });
  } finally {
    await clearPlace(place, keeper);
  }
}

/** Takes down what is there, also what a benchmark that was killed has left. */
export async function clearPlace(
  place: Place,
  keeper: Pick<DaemonKeeper, "stopUnusedDaemon">,
): Promise<void> {
  await labDown();
  await keeper.stopUnusedDaemon();
  await releaseLeftPages(place);
  for (const directory of [place.runDir, place.stateDir]) rmSync(directory, { recursive: true, force: true });
}
