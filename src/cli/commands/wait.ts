/** `mwarp wait`: until a migration, or a container, has ended. */
import { setTimeout as sleep } from "node:timers/promises";
import type { DaemonClient } from "../../daemon/client.js";
import type { ContainerList } from "../../protocol/api.js";
import type { ContainerState } from "../../protocol/container.js";
import { type Register, type Session, withJson } from "../session.js";

const LOOK_MS = 500;

export const registerWait: Register = (program, session) => {
  withJson(
    program
      .command("wait")
      .description("wait for a migration, and end as `migrate` would have; or for the end of a container"),
  )
    .argument("<id>", "migration: id or unique prefix; with --container: name of a container")
    .option("-q, --quiet", "no progress")
    .option(
      "-c, --container",
      "wait until a container has ended for good, wherever it moves; prints its exit code",
    )
    .action(async (wanted: string, options: { readonly quiet?: true; readonly container?: true }) => {
      const daemon = await session.daemon();
      if (options.container) return waitForContainer(session, daemon, wanted);
      const { id, request } = await daemon.migration(wanted);
      const { followMigration } = await import("../follow.js");
      const { container, to } = request;
      const quiet = options.quiet === true;
      await followMigration(session, daemon, { id, container, to, onInterrupt: "detach", quiet });
    });
};

/**
 * One whose policy starts it again has not ended. On no VM at all it has been removed, or has ended with its VM, unless a VM does not
 * answer.
 * @throws MWARP_E_CONTAINER_UNKNOWN, MWARP_E_USAGE
 */
async function waitForContainer(session: Session, daemon: DaemonClient, wanted: string): Promise<void> {
  const { name, exitCode } = await session.interruptible(async (signal) => {
    for (;;) {
      const list = await daemon.containers(signal);
      const named = await meant(list, wanted);
      // While it moves there may be two of it, one of which a migration has.
      const over = named.every(({ status, held }) => status === "stopped" && held === null);
      if (named[0] !== undefined && over) return { name: named[0].spec.name, exitCode: named[0].exitCode };
      const silent = list.unreachable.some(({ error }) => error.code !== "MWARP_E_VM_UNREACHABLE");
      if (named.length === 0 && !silent) {
        const { MwarpError } = await import("../../errors.js");
        throw new MwarpError("MWARP_E_CONTAINER_UNKNOWN", `there is no container "${wanted}"`);
      }
      await sleep(LOOK_MS, undefined, { signal });
    }
  });
  if (session.json) return session.document({ name, exit_code: exitCode });
  session.print(String(exitCode ?? "unknown"));
}

/** The container of that name, else of that beginning of an id, on each VM that lists it. */
async function meant({ containers }: ContainerList, wanted: string): Promise<ContainerState[]> {
  const all = containers.map(({ container }) => container);
  const named = all.filter(({ spec }) => spec.name === wanted);
  if (named.length > 0) return named;
  const found = all.filter(({ spec }) => spec.id.startsWith(wanted));
  if (new Set(found.map(({ spec }) => spec.id)).size <= 1) return found;
  const { MwarpError } = await import("../../errors.js");
  throw new MwarpError("MWARP_E_USAGE", `"${wanted}" is the beginning of several containers' ids`);
}
