/** `mwarp logs`: what a container has said. */
import type { LogEntry } from "../../protocol/api.js";
import { plain } from "../output/plain.js";
import { parseCount } from "../parse.js";
import { type Register, type Session, withJson } from "../session.js";

interface LogOptions {
  readonly follow?: true;
  readonly tail?: number;
  readonly timestamps?: true;
}

export const registerLogs: Register = (program, session) => {
  withJson(program.command("logs").description("print what a container has said"))
    .argument("<name>", "container: name or unique id prefix")
    .option("-f, --follow", "go on until the container ends, or Ctrl-C")
    .option("-n, --tail <lines>", "the last lines only", parseCount(0))
    .option("-t, --timestamps", "with the time of each line")
    .addHelpText(
      "after",
      "\nstderr of the container goes to stderr. With --json: one document; with -f, one per line.",
    )
    .action(async (name: string, options: LogOptions) => {
      const daemon = await session.daemon();
      const query = { follow: options.follow === true, tail: options.tail ?? null };
      const collected: LogEntry[] = [];
      await session.interruptible(async (signal) => {
        for await (const entry of daemon.logs(name, query, signal)) {
          if (!session.json) printEntry(session, entry, options.timestamps === true);
          else if (query.follow) session.io.stdout.write(`${JSON.stringify(entry)}\n`);
          else collected.push(entry);
        }
      });
      if (session.json && !query.follow) session.document({ lines: collected });
    });
};

function printEntry(session: Session, { time, stream, text }: LogEntry, timestamps: boolean): void {
  const out = stream === "stderr" ? session.io.stderr : session.io.stdout;
  out.write(`${timestamps ? `${plain(time)} ` : ""}${text}\n`);
}
