/**
 * CRIU's configuration for mWarp's containers alone. It reaches CRIU by an environment variable, so other users of CRIU
 * in the guest never meet it, and it is read once (a file named by runc is read twice, and each action runs twice).
 * The annotation on the container keeps runc from adding its own file.
 */
import { copyFile, rm, symlink } from "node:fs/promises";
import { writeAtomic } from "./files.js";
import { ACTION_SCRIPT, CRIU_CONF, CRIU_QUICK_CONF, HELPER } from "./paths.js";

/** In the OCI configuration: no CRIU configuration file from runc. */
export const CRIU_ANNOTATIONS: Readonly<Record<string, string>> = { "org.criu.config": "" };

/** The largest file without a name that travels in the images. */
export const GHOST_LIMIT_BYTES = 64 * 1024 * 1024;

const configuration = `# written by the mWarp agent
# mWarp keeps the fence: the container's link is down from the freeze to the commit
network-lock skip
tcp-established
file-locks
# connections that wait to be accepted are the agent's to take along (migration/loose-connections.ts)
skip-in-flight
# unlinked files that a container still has open travel in the images
ghost-limit ${GHOST_LIMIT_BYTES}
# those of which another name is left are linked anew (migration/links.ts)
link-remap
`;

export async function writeCriuConf(): Promise<void> {
  await rm(ACTION_SCRIPT, { force: true });
  // By its name the program knows that it is the action script.
  await symlink(HELPER, ACTION_SCRIPT).catch(() => copyFile(HELPER, ACTION_SCRIPT));
  await writeAtomic(CRIU_CONF, `${configuration}action-script ${ACTION_SCRIPT}\n`);
  await writeAtomic(CRIU_QUICK_CONF, configuration);
}
