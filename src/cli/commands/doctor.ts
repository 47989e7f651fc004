/** `mwarp doctor`: is this host, and is each VM, fit for mWarp. */
import { ExitCode } from "../../errors.js";
import { type Register, withJson } from "../session.js";

export const registerDoctor: Register = (program, session) => {
  withJson(
    program
      .command("doctor")
      .description("check the host, the daemon and each VM, with a remedy for what is wrong"),
  )
    .addHelpText("after", "\nExit status 1 when a check fails; warnings do not count.")
    .action(async () => {
      const { diagnose } = await import("../doctor/diagnose.js");
      const { checks, costs } = await diagnose(session.io);
      const failed = checks.some((check) => check.status === "fail");
      if (failed) session.exitCode = ExitCode.failed;
      if (session.json) return session.document({ ok: !failed, checks, costs });
      const { checkLines } = await import("../doctor/render.js");
      for (const line of checkLines(checks, session.io)) session.printPainted(line);
    });
};
