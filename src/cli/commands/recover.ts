/** `mwarp recover`: settles migrations that were cut off. */
import { ExitCode } from "../../errors.js";
import { type Register, withJson } from "../session.js";

export const registerRecover: Register = (program, session) => {
  withJson(
    program.command("recover").description("settle migrations that a dead daemon left, by their journals"),
  )
    .addHelpText("after", "\nThe daemon does this by itself when it starts. Doing it again is safe.")
    .action(async () => {
      const daemon = await session.daemon();
      const { actions } = await daemon.recover();
      if (actions.some((action) => action.outcome === "pending")) session.exitCode = ExitCode.needsRecovery;
      if (session.json) return session.document({ actions });
      if (actions.length === 0) session.say("nothing to recover");
      for (const { migration, outcome, message } of actions)
        session.print(`${migration}  ${outcome}  ${message}`);
    });
};
