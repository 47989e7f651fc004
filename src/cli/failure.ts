/** From a thrown value to what is printed and the exit status. */
import { CommanderError } from "commander";
import { ExitCode, type MwarpError, toMwarpError } from "../errors.js";
import { Interrupted, type Session } from "./session.js";

/** Prints the error as the session wants it and returns the exit status. */
export function reportFailure(session: Session, thrown: unknown): number {
  if (thrown instanceof Interrupted) {
    session.say("interrupted");
    return ExitCode.interrupted;
  }
  if (thrown instanceof CommanderError) return usageStatus(thrown);
  const error = toMwarpError(thrown);
  if (session.json) session.document({ error: errorDocument(error) });
  for (const line of errorLines(error)) session.say(line);
  if (error.code === "MWARP_E_INTERNAL" && session.io.env.MWARP_DEBUG && thrown instanceof Error)
    session.say(thrown.stack ?? "");
  return error.exit;
}

/** Commander has printed its message already; help and version that were asked for are no errors. */
function usageStatus(error: CommanderError): number {
  return error.exitCode === 0 ? ExitCode.done : ExitCode.usage;
}

export function errorLines(error: MwarpError): string[] {
  const where = error.phase === undefined ? "" : ` in ${error.phase}`;
  return [
    `mwarp: ${error.message} [${error.code}${where}]`,
    ...error.details.map((line) => `  ${line}`),
    `hint: ${error.hint}`,
  ];
}

export function errorDocument(error: MwarpError): object {
  const { code, message, hint, details, exit } = error;
  return { code, message, hint, phase: error.phase ?? null, details, exit };
}
