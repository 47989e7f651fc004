/** The command tree. Only what `--help` needs is loaded here; each command loads its own work when it runs. */
import { Command, CommanderError } from "commander";
import { ExitCode } from "../errors.js";
import { packageVersion } from "../protocol/build.js";
import { commands } from "./commands/index.js";
import { reportFailure } from "./failure.js";
import type { Io } from "./io.js";
import { Session } from "./session.js";

const exitStatus = `
Exit status:
  0  done                                     5    refused before anything was touched
  1  failed; the container is at its source   6    not found
  2  wrong usage, or not root                 7    cancelled and rolled back
  3  daemon, VM or agent unreachable          8    needs \`mwarp recover\`
  4  busy, try again                          130  interrupted

Environment: MWARP_STATE_DIR, MWARP_RUN_DIR, MWARP_CACHE_DIR, NO_COLOR, MWARP_DEBUG (stack of internal errors)
Start here:  mwarp demo`;

/** The whole tree, for help, completion and the man page. */
export function buildProgram(session: Session): Command {
  const program = new Command("mwarp")
    .description("Moves a running container between two VMs of one host without copying its memory.")
    .version(packageVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print help for a command")
    .configureHelp({ sortSubcommands: false, showGlobalOptions: false })
    .configureOutput({
      writeOut: (text) => session.io.stdout.write(text),
      writeErr: (text) => session.io.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, "mwarp: ")),
      getOutHelpWidth: () => session.io.stdout.columns ?? 100,
      getErrHelpWidth: () => session.io.stderr.columns ?? 100,
    })
    .exitOverride()
    .addHelpText("after", exitStatus);
  program.hook("preAction", (_program, action) => {
    session.json = action.opts().json === true;
  });
  for (const register of commands) register(program, session);
  return program;
}

/** Runs one command line. Never throws; resolves with the exit status. @param argv without node and script */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const session = new Session(io, argv);
  const program = buildProgram(session);
  if (argv.length === 0) {
    program.outputHelp();
    return ExitCode.done;
  }
  try {
    await program.parseAsync(argv, { from: "user" });
    return session.exitCode;
  } catch (error) {
    if (error instanceof CommanderError && wantsJson(argv) && error.exitCode !== 0)
      session.document({
        error: {
          code: "MWARP_E_USAGE",
          message: error.message.replace(/^error: /, ""),
          exit: ExitCode.usage,
        },
      });
    return reportFailure(session, error);
  }
}

/** Whether `--json` was asked for, when parsing failed before anyone could say. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return argv.slice(0, end < 0 ? undefined : end).includes("--json");
}
