/** `mwarp cancel`: asks a migration to roll back. */
import { type Register, withJson } from "../session.js";

const words = {
  cancelling: "cancelling: it will be rolled back",
  finishing: "it is past the commit and only goes forward",
  done: "it has ended already",
} as const;

export const registerCancel: Register = (program, session) => {
  withJson(program.command("cancel").description("ask a running migration to roll back"))
    .argument("<id>", "migration: id or unique prefix")
    .action(async (wanted: string) => {
      const daemon = await session.daemon();
      const { id } = await daemon.migration(wanted);
      const { state } = await daemon.cancelMigration(id);
      if (session.json) return session.document({ id, state });
      session.say(`${id}: ${words[state]}`);
    });
};
