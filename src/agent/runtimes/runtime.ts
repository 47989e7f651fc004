/** The OCI runtimes that mWarp drives, and in what they differ. What they have in common is in their command lines (oci-cli). */
import { join } from "node:path";
import type { RuntimeName } from "../../protocol/container.js";
import { crun } from "./crun.js";
import { runc } from "./runc.js";

/** A container that CRIU has restored, as its runtime is to know it. */
export interface RestoredContainer {
  readonly name: string;
  /** Pid in the guest. */
  readonly initPid: number;
  /** Where the record is kept until somebody needs it. */
  readonly file: string;
}

export interface Runtime {
  readonly name: RuntimeName;
  /** What the runtime keeps of a container. */
  stateDir(container: string): string;
  /** Where it mounts the root of a container that it restores, for CRIU. */
  restoreRoot(container: string): string;
  /**
   * What it gave to the container's init as its first descriptors ("/dev/null", "pipe:[4711]"), as it remembers them; null when it does
   * not say.
   * @throws MWARP_E_NOT_RUNNING when it knows no such container
   */
  externalDescriptors(container: string): Promise<string[] | null>;
  /** Whether it puts the CRIU that restores into the container's control group itself. */
  readonly restoresInsideGroup: boolean;
  /** While a restored container waits: notes down the record that the runtime would make of it, or has made. */
  keepRecord(container: RestoredContainer): Promise<void>;
  /** Gives it that record when it ended without making one. */
  putRecordBack(container: string, file: string): Promise<void>;
  /**
   * Words that start a command line which executes something in a container.
   * @param dir of the execution, which goes with it
   */
  executing(container: string, initPid: number, dir: string): Promise<[program: string, ...args: string[]]>;
}

const runtimes: Readonly<Record<RuntimeName, Runtime>> = { runc, crun };

export const runtimeOf = (name: RuntimeName): Runtime => runtimes[name];

/** The runtime's own messages of a job. */
export const runtimeLog = (job: string): string => join(job, "runtime.log");

/** A command line of a runtime, with the log file that keeps its own messages. */
export const runtimeArguments = (runtime: RuntimeName, job: string, ...args: readonly string[]): string[] => [
  runtime,
  "--log",
  runtimeLog(job),
  ...args,
];
