/** `mwarp wait`: until a migration has ended. */
import { type Register, withJson } from "../session.js";

export const registerWait: Register = (program, session) => {
  withJson(program.command("wait").description("wait for a migration; ends as `migrate` would have"))
    .argument("<id>", "migration: id or unique prefix")
    .option("-q, --quiet", "no progress")
    .action(async (wanted: string, options: { readonly quiet?: true }) => {
      const daemon = await session.daemon();
      const { id, request } = await daemon.migration(wanted);
      const { followMigration } = await import("../follow.js");
      const { container, to } = request;
      const quiet = options.quiet === true;
      await followMigration(session, daemon, { id, container, to, onInterrupt: "detach", quiet });
    });
};
