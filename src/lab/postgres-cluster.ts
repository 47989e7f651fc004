/** The database cluster in the root file system of PostgreSQL: made with the image, because under TCG it would take half a minute. */
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./exec.js";

/** PostgreSQL refuses to be root. */
export const postgresUser = { uid: 101, gid: 101 } as const;

const HOME = "/var/lib/postgresql";
const DATA = `${HOME}/main`;

/**
 * WAL segments of 1 MiB: the writable layer travels with the container, and a started segment travels whole. Time zone GMT: the one
 * that needs no files.
 */
const initdb = [
  ...["initdb", "--pgdata", DATA, "--username=postgres", "--auth=trust", "--no-instructions", "--no-sync"],
  ...["--locale=C", "--encoding=UTF8", "--wal-segsize=1"],
  ...["--set", "timezone=GMT", "--set", "log_timezone=GMT"],
];

/** In a mount namespace of its own, so that no mount outlives it. */
const script = `mount --rbind /dev "$1/dev" && shift && exec "$@"`;

/** Makes the cluster inside the root file system `rootfs`. @throws MWARP_E_LAB with initdb's last lines */
export async function createCluster(rootfs: string, signal: AbortSignal | undefined): Promise<void> {
  const { uid, gid } = postgresUser;
  const owner = ["-o", String(uid), "-g", String(gid)];
  await run(["install", "-d", "-m", "0700", ...owner, join(rootfs, HOME)], { signal });
  const isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"];
  const inside = ["chroot", `--userspec=${uid}:${gid}`, rootfs, "/usr/bin/env", "-i", "PATH=/usr/bin"];
  await run([...isolated, "sh", "-c", script, "sh", rootfs, ...inside, ...initdb], { signal });
  appendFileSync(join(rootfs, DATA, "pg_hba.conf"), "host all all samenet trust\n");
}
