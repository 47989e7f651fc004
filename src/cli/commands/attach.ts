/** `mwarp attach`: a container's output, and its terminal when it has one, wherever it moves to. */
import { attachTo } from "../attach.js";
import { parseDetachKeys } from "../detach-keys.js";
import type { Register } from "../session.js";

export const DETACH_KEYS = "ctrl-p,ctrl-q";

interface Options {
  readonly detachKeys?: Buffer;
}

export const registerAttach: Register = (program, session) => {
  program
    .command("attach")
    .description("see what a container says, and type at its terminal; its exit status is passed on")
    .argument("<name>", "container: name or unique id prefix")
    .option("--detach-keys <keys>", `keys that detach (default: ${DETACH_KEYS})`, parseDetachKeys)
    .addHelpText(
      "after",
      "\nA move is followed: nothing said or typed is lost, or comes twice. With a terminal all keys are the\ncontainer's, Ctrl-C too, but for those that detach; without one Ctrl-C detaches.",
    )
    .action(async (name: string, options: Options) => {
      const daemon = await session.daemon();
      await attachTo(session, daemon, name, {
        from: "now",
        keys: options.detachKeys ?? parseDetachKeys(DETACH_KEYS),
      });
    });
};
