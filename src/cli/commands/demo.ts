/** `mwarp demo`: a Redis moves between two VMs while a client works with it. */
import { type Register, withJson } from "../session.js";

export const registerDemo: Register = (program, session) => {
  withJson(program.command("demo").description("move a Redis between two VMs while a client works with it"))
    .option("--keep", "leave the lab and Redis as they are at the end")
    .action(async (options: { readonly keep?: true }) => {
      session.requireRoot("mwarp demo");
      const { closingWords, runDemo } = await import("../../demo/demo.js");
      const { stopUnusedDaemon } = await import("../stop-daemon.js");
      const keep = options.keep === true;
      const result = await session.interruptible((signal) =>
        runDemo({
          io: session.io,
          signal,
          keep,
          daemon: () => session.daemon(),
          stopUnusedDaemon: async () => {
            await stopUnusedDaemon(session.io, (text) => session.say(text));
          },
        }),
      );
      if (session.json) session.document(result);
      else session.print(closingWords(result, keep));
    });
};
