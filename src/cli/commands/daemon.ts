/** `mwarp daemon`: the process behind the other commands. */
import { MwarpError } from "../../errors.js";
import { daemonLogFile, daemonSocket } from "../../paths.js";
import { formatAge } from "../output/format.js";
import { type Register, withJson } from "../session.js";

export const registerDaemon: Register = (program, session) => {
  const daemon = program
    .command("daemon")
    .description("run, stop or look at the daemon (it starts by itself)");

  daemon
    .command("run")
    .description("serve in the foreground until SIGTERM; for systemd and for debugging")
    .action(async () => {
      session.requireRoot("mwarp daemon run");
      const { runDaemon } = await import("../../daemon/main.js");
      await runDaemon(session.io.env);
    });

  withJson(
    daemon.command("stop").description("end the daemon; running migrations roll back or finish first"),
  ).action(async () => {
    const { connectIfRunning, stopDaemon } = await import("../connect.js");
    const found = await connectIfRunning(session.io);
    if (found !== null) await stopDaemon(found.client, { ifUnused: false });
    if (session.json) session.document({ stopped: found !== null });
    else session.say(found === null ? "no daemon runs" : `daemon ${found.version.pid} has ended`);
  });

  withJson(daemon.command("status").description("say whether the daemon runs")).action(async () => {
    const { connectIfRunning } = await import("../connect.js");
    const found = await connectIfRunning(session.io);
    if (found === null) {
      throw new MwarpError("MWARP_E_DAEMON_UNREACHABLE", "no daemon runs", {
        hint: "It starts with the first command that needs it.",
      });
    }
    const { version } = found;
    const facts = { ...version, socket: daemonSocket(session.io.env), log: daemonLogFile(session.io.env) };
    if (session.json) return session.document(facts);
    session.print(
      `pid ${version.pid}, version ${version.version} (${version.build}), started ${formatAge(version.startedAt)}\n` +
        `socket ${facts.socket}\nlog ${facts.log}`,
    );
  });
};
