/** `mwarp rm`: removes containers. */
import { reportFailure } from "../failure.js";
import { type Register, withJson } from "../session.js";

export const registerRm: Register = (program, session) => {
  withJson(program.command("rm").description("remove containers"))
    .argument("<name...>", "containers: names or unique id prefixes")
    .option("-f, --force", "end running ones")
    .option("--volumes", "with their named volumes, which else stay in the VM")
    .action(async (names: string[], options: { readonly force?: true; readonly volumes?: true }) => {
      const daemon = await session.daemon();
      const removed: string[] = [];
      for (const name of names) {
        try {
          const full = await daemon.remove(name, {
            force: options.force === true,
            volumes: options.volumes === true,
          });
          removed.push(full);
          if (!session.json) session.print(full);
        } catch (error) {
          // The others are still removed; the first failure decides the exit status.
          if (names.length === 1) throw error;
          const json = session.json;
          session.json = false;
          const status = reportFailure(session, error);
          session.json = json;
          if (session.exitCode === 0) session.exitCode = status;
        }
      }
      if (session.json) session.document({ removed });
    });
};
