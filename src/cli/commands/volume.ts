/** `mwarp volume`: named volumes of all VMs. */
import { formatBytes } from "../output/format.js";
import { parseName } from "../parse.js";
import { type Register, withJson } from "../session.js";

export const registerVolume: Register = (program, session) => {
  const volume = program.command("volume").description("named volumes, which move with their containers");
  withJson(volume.command("ls").description("list the named volumes of all VMs")).action(async () => {
    const daemon = await session.daemon();
    const { volumes, unreachable } = await daemon.volumes();
    if (session.json) return session.document({ volumes, unreachable });
    for (const item of unreachable) session.say(`${item.vm} does not answer: ${item.error.message}`);
    await session.table(
      ["NAME", "VM", "CONTAINER", "SIZE"],
      volumes.map(({ name, vm, container, bytes }) => [name, vm, container ?? "-", formatBytes(bytes)]),
    );
  });
  withJson(volume.command("rm").description("remove a named volume that no container has"))
    .argument("<name>", "the volume", parseName)
    .option("--vm <vm>", "where, if several VMs have one of that name")
    .action(async (name: string, options: { readonly vm?: string }) => {
      const daemon = await session.daemon();
      const removed = await daemon.removeVolume(name, options.vm ?? null);
      if (session.json) return session.document(removed);
      session.print(removed.name);
    });
};
