/** `mwarp stop`: ends a container for good. */
import { parseDurationOrNone, parseSignal } from "../parse.js";
import { type Register, withJson } from "../session.js";

const GRACE_MS = 10_000;

interface StopOptions {
  readonly time?: number;
  readonly signal?: string;
}

export const registerStop: Register = (program, session) => {
  withJson(program.command("stop").description("end a container; its restart policy does not start it again"))
    .argument("<name>", "container: name or unique id prefix")
    .option("-t, --time <time>", "until it is killed (default: 10s)", parseDurationOrNone)
    .option(
      "-s, --signal <signal>",
      "what it is told first (default: its image's, else SIGTERM)",
      parseSignal,
    )
    .action(async (wanted: string, options: StopOptions) => {
      const daemon = await session.daemon();
      const request = { signal: options.signal ?? null, graceMs: options.time ?? GRACE_MS };
      const { name, exitCode } = await session.interruptible((signal) =>
        daemon.stop(wanted, request, signal),
      );
      if (session.json) return session.document({ name, exit_code: exitCode });
      session.print(name);
    });
};
