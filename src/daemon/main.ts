/** `mwarp daemon run`: the process itself. */
import { mkdirSync } from "node:fs";
import pino from "pino";
import { isMwarpError } from "../errors.js";
import { daemonLogFile, type Environment, stateDir } from "../paths.js";
import { startDaemon } from "./process.js";
import { wirePorts } from "./wire.js";

/** Of the log, held in memory while the disk takes no more. */
const UNWRITTEN_LOG_BYTES = 1024 * 1024;

/**
 * Serves until SIGTERM or SIGINT; resolves when all has ended. A second daemon ends at once and says so: whoever started
 * it finds the first one's socket.
 */
export async function runDaemon(env: Environment): Promise<void> {
  mkdirSync(stateDir(env), { recursive: true, mode: 0o750 });
  const file = pino.destination({
    dest: daemonLogFile(env),
    mkdir: false,
    sync: true,
    mode: 0o640,
    maxLength: UNWRITTEN_LOG_BYTES,
  });
  // A full disk must not end the daemon in the middle of a migration. What could not be written is kept, up to a limit, and
  // written with what comes next; what is dropped beyond it there is nowhere to say.
  file.on("error", () => undefined);
  const log = pino({ base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, file);
  process.on("uncaughtException", (err) => {
    log.fatal({ err }, "uncaught exception");
    process.exit(1);
  });
  process.on("unhandledRejection", (err) => log.error({ err }, "unhandled rejection"));
  try {
    const daemon = await startDaemon(env, wirePorts(env, log));
    process.on("SIGTERM", daemon.stop);
    process.on("SIGINT", daemon.stop);
    await daemon.stopped;
    log.info({}, "daemon ended");
    // All is closed and written: no forgotten timer may keep the process.
    process.exit(0);
  } catch (error) {
    if (isMwarpError(error, "MWARP_E_BUSY")) log.info({}, error.message);
    else log.fatal({ err: error }, "daemon could not start");
    throw error;
  }
}
