/** `mwarp exec`: runs a command in a container. */

import { commandIo } from "../command-io.js";
import { collectEnv } from "../parse.js";
import type { Register, Session } from "../session.js";

interface ExecOptions {
  readonly interactive?: true;
  readonly env?: readonly string[];
  readonly workdir?: string;
}

export const registerExec: Register = (program, session) => {
  program
    .command("exec")
    .description("run a command in a container; its exit status is passed on")
    .usage("NAME [options] -- CMD...")
    .argument("<name>", "container: name or unique id prefix")
    .argument("<command...>", "command and its arguments, after --")
    .option("-i, --interactive", "pass stdin on even when it is a terminal")
    .option("-e, --env <key=value>", "environment variable, may be repeated", collectEnv)
    .option("-w, --workdir <dir>", "directory the command starts in")
    .addHelpText(
      "after",
      "\nstdin is passed on when it is not a terminal. There is no terminal inside (no -t).",
    )
    .action(async (name: string, command: string[], options: ExecOptions) => {
      const daemon = await session.daemon();
      const request = { argv: command, env: [...(options.env ?? [])], cwd: options.workdir ?? null };
      await passOn(session, options.interactive === true, (io) => daemon.exec(name, request, io));
    });
};

/** Connects this process's streams to a command elsewhere and takes over its exit status. */
export async function passOn(
  session: Session,
  interactive: boolean,
  start: (io: ReturnType<typeof commandIo>) => Promise<number>,
): Promise<void> {
  const stdin = interactive || session.io.stdin.isTTY !== true ? session.io.stdin : null;
  try {
    session.exitCode = await session.interruptible((signal) => start(commandIo(session.io, stdin, signal)));
  } finally {
    // A pipe that the caller never closes must not keep a finished command alive.
    stdin?.destroy();
  }
}
