/**
 * Every error a person or program can meet, in one table: the exit code, whether a retry can help, and the remedy.
 * `docs/errors.md` is made from this table and a test holds both to the same set.
 */

/** What the process exit status says (a contract, see `mwarp --help`). */
export const ExitCode = {
  done: 0,
  failed: 1,
  usage: 2,
  unreachable: 3,
  busy: 4,
  refused: 5,
  notFound: 6,
  cancelled: 7,
  needsRecovery: 8,
  interrupted: 130,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

interface ErrorClass {
  readonly exit: ExitCode;
  /** True when the same command may succeed later with nothing changed by the user. */
  readonly retryable: boolean;
  /** What to do about it; the default hint. */
  readonly remedy: string;
}

const table = {
  MWARP_E_USAGE: { exit: 2, retryable: false, remedy: "See the command help: mwarp COMMAND --help." },
  MWARP_E_NOT_ROOT: {
    exit: 2,
    retryable: false,
    remedy: "Run the command as root: mWarp drives VMs, namespaces and containers.",
  },
  MWARP_E_DAEMON_UNREACHABLE: {
    exit: 3,
    retryable: true,
    remedy: "Look at the daemon log in the state directory; `mwarp doctor` checks the host.",
  },
  MWARP_E_VM_UNREACHABLE: { exit: 3, retryable: true, remedy: "Check that the VM runs: mwarp vm ls." },
  MWARP_E_AGENT_UNREACHABLE: {
    exit: 3,
    retryable: true,
    remedy: "Check that the guest agent runs in the VM: mwarp vm ls shows its state.",
  },
  MWARP_E_TIMEOUT: {
    exit: 1,
    retryable: true,
    remedy: "Raise the time limit, or look for what is slow: mwarp inspect ID.",
  },
  MWARP_E_CANCELLED: { exit: 7, retryable: true, remedy: "Nothing to do: the operation was rolled back." },
  MWARP_E_BUSY: {
    exit: 4,
    retryable: true,
    remedy: "Wait for the running operation to end, then try again.",
  },
  MWARP_E_CONTAINER_UNKNOWN: { exit: 6, retryable: false, remedy: "List the containers: mwarp ps." },
  MWARP_E_VOLUME_UNKNOWN: { exit: 6, retryable: false, remedy: "List the volumes: mwarp volume ls." },
  MWARP_E_VM_UNKNOWN: { exit: 6, retryable: false, remedy: "List the VMs: mwarp vm ls." },
  MWARP_E_MIGRATION_UNKNOWN: { exit: 6, retryable: false, remedy: "List the migrations: mwarp history." },
  MWARP_E_NAME_TAKEN: {
    exit: 5,
    retryable: false,
    remedy: "Choose another name, or remove the container that has it: mwarp rm NAME.",
  },
  MWARP_E_SAME_VM: {
    exit: 5,
    retryable: false,
    remedy: "Name another VM with --to; mwarp vm ls lists them.",
  },
  MWARP_E_NOT_RUNNING: {
    exit: 5,
    retryable: false,
    remedy: "Only a running container can be moved; mwarp ps shows its state.",
  },
  MWARP_E_NO_MEMORY: {
    exit: 5,
    retryable: false,
    remedy: "Free memory in the destination VM, or choose a larger one.",
  },
  MWARP_E_MEMORY_NOT_SHARED: {
    exit: 5,
    retryable: false,
    remedy: "Start the VM with memory-backend-memfd,share=on, or use --method cold.",
  },
  MWARP_E_CRIU_TOO_OLD: { exit: 5, retryable: false, remedy: "Install CRIU 4.0 or newer in the guest." },
  MWARP_E_RUNC_TOO_OLD: { exit: 5, retryable: false, remedy: "Install runc 1.1.10 or newer in the guest." },
  MWARP_E_CRUN_TOO_OLD: {
    exit: 5,
    retryable: false,
    remedy: "Install crun 1.21 or newer in the guest, with CRIU's library (Debian: crun, libcriu2).",
  },
  MWARP_E_UNSUPPORTED: {
    exit: 5,
    retryable: false,
    remedy: "Stop using the named resource, or use --method cold if CRIU supports it.",
  },
  MWARP_E_LAB: {
    exit: 1,
    retryable: true,
    remedy: "Look at the named log; `mwarp lab down` clears what is left.",
  },
  MWARP_E_RUNTIME: {
    exit: 1,
    retryable: true,
    remedy: "The quoted lines are from the container runtime in the guest.",
  },
  MWARP_E_DUMP: { exit: 1, retryable: true, remedy: "The quoted lines are from CRIU in the source guest." },
  MWARP_E_RESTORE: {
    exit: 1,
    retryable: true,
    remedy: "The quoted lines are from CRIU in the destination guest.",
  },
  MWARP_E_WARP: {
    exit: 1,
    retryable: true,
    remedy: "The memory exchange was undone; try again, or use --backend copy.",
  },
  MWARP_E_IMAGE: {
    exit: 1,
    retryable: false,
    remedy: "A CRIU image was not as expected; keep the logs and report it.",
  },
  MWARP_E_PROTOCOL: {
    exit: 1,
    retryable: false,
    remedy: "The two sides disagree: bring the agent and the daemon to the same version.",
  },
  MWARP_E_CONTAINER_LOST: {
    exit: 1,
    retryable: false,
    remedy:
      "The container has ended, as with the death of its VM: start it anew. --method warp does not depend on the source after the commit.",
  },
  MWARP_E_NEEDS_RECOVERY: { exit: 8, retryable: true, remedy: "Run mwarp recover." },
  MWARP_E_INTERNAL: {
    exit: 1,
    retryable: false,
    remedy: "This is a defect in mWarp; please report it with the log.",
  },
} as const satisfies Record<string, ErrorClass>;

export type ErrorCode = keyof typeof table;
export const errorTable: Readonly<Record<ErrorCode, ErrorClass>> = table;
export const errorCodes = Object.keys(table) as [ErrorCode, ...ErrorCode[]];

export interface MwarpErrorOptions {
  /** Replaces the table's remedy when more is known. */
  hint?: string;
  /** Migration phase in which it happened. */
  phase?: string;
  /** Every reason of a refusal; the last lines of the tool that failed otherwise. */
  details?: readonly string[];
  cause?: unknown;
}

/** The one error class that crosses module and process borders. */
export class MwarpError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly phase: string | undefined;
  readonly details: readonly string[];

  constructor(code: ErrorCode, message: string, options: MwarpErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "MwarpError";
    this.code = code;
    this.hint = options.hint ?? errorTable[code].remedy;
    this.phase = options.phase;
    this.details = options.details ?? [];
  }

  get exit(): ExitCode {
    return errorTable[this.code].exit;
  }
}

export function isMwarpError(error: unknown, code?: ErrorCode): error is MwarpError {
  return error instanceof MwarpError && (code === undefined || error.code === code);
}

/** Any thrown value as an `MwarpError`; what is not one already becomes an internal error that keeps its cause. */
export function toMwarpError(error: unknown): MwarpError {
  if (error instanceof MwarpError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new MwarpError("MWARP_E_INTERNAL", message, { cause: error });
}
