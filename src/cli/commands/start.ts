/** `mwarp start`: starts a container again that has ended. */
import { type Register, withJson } from "../session.js";
import { psEntry } from "./ps.js";

export const registerStart: Register = (program, session) => {
  withJson(
    program.command("start").description("start a container that has ended, with the files that it has"),
  )
    .argument("<name>", "container: name or unique id prefix")
    .action(async (wanted: string) => {
      const daemon = await session.daemon();
      const entry = psEntry(await session.interruptible((signal) => daemon.start(wanted, signal)));
      if (session.json) return session.document(entry);
      session.print(entry.name);
    });
};
