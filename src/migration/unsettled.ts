/**
 * What only recovery may go on from: memory that could be neither exchanged nor put back, with both VMs paused, or a commit
 * that may or may not be on disk. Neither a rollback nor a step forward is right then. Other errors of the code
 * MWARP_E_NEEDS_RECOVERY, also one that an agent claims, stop nobody from rolling back.
 */
import { isMwarpError, MwarpError } from "../errors.js";

export class Unsettled extends MwarpError {
  constructor(cause: MwarpError) {
    const { message, hint, details } = cause;
    super("MWARP_E_NEEDS_RECOVERY", message, { cause, hint, details });
  }

  /** Marks an error that came from where memory or the commit is at stake; any other stays as it is. */
  static mark(error: unknown): unknown {
    if (error instanceof Unsettled || !isMwarpError(error, "MWARP_E_NEEDS_RECOVERY")) return error;
    return new Unsettled(error);
  }
}
