/** The daemon's life: lock, listen, serve, end in order. */
import { mkdirSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { MwarpError } from "../errors.js";
import {
  daemonLockFile,
  daemonPidFile,
  daemonSocket,
  type Environment,
  historyDir,
  runDir,
  stateDir,
} from "../paths.js";
import { currentBuild } from "../protocol/build.js";
import { deferred } from "../vm/deferred.js";
import { createApp } from "./app.js";
import { tryLock } from "./lock.js";
import type { DaemonPorts } from "./ports.js";
import { closeServer, listen } from "./server.js";
import { createServices } from "./services.js";
import { watchVms } from "./vm-watch.js";

/** Open streams (logs -f, exec) may last this long once the daemon stops, ms. */
const CLOSE_GRACE_MS = 500;

export interface RunningDaemon {
  /** Begins the end: no new operations, migrations roll back or finish, then the socket goes. Idempotent. */
  stop(): void;
  readonly stopped: Promise<void>;
}

/** Starts serving. @throws MWARP_E_BUSY when another daemon serves this run directory */
export async function startDaemon(env: Environment, ports: DaemonPorts): Promise<RunningDaemon> {
  for (const directory of [runDir(env), stateDir(env)])
    mkdirSync(directory, { recursive: true, mode: 0o750 });
  const lock = tryLock(daemonLockFile(env));
  if (lock === null) throw new MwarpError("MWARP_E_BUSY", `a daemon already serves ${runDir(env)}`);
  const services = createServices(ports, historyDir(env));
  const begin = deferred<void>();
  const lifetime = {
    startedAt: new Date().toISOString(),
    build: currentBuild(),
    stopping: false,
    stop: () => {
      lifetime.stopping = true;
      begin.resolve();
    },
  };
  const server = await listen(createApp(services, lifetime), daemonSocket(env));
  writeFileSync(daemonPidFile(env), `${process.pid}\n`, { mode: 0o644 });
  ports.log.info({ ...lifetime.build, runDir: runDir(env) }, "daemon serves");
  // It begins before any request is served: until its first try has ended, no migration is started.
  services.recoverer.kick();
  // Beside everything else: a migration that comes sooner waits for it before it freezes anything.
  void ports.costs.current();
  const watch = watchVms(ports);
  const end = async (): Promise<void> => {
    await begin.promise;
    services.recoverer[Symbol.dispose]();
    ports.log.info({ migrations: services.migrations.running }, "daemon stops");
    watch[Symbol.dispose]();
    await services.migrations.drain();
    await closeServer(server, CLOSE_GRACE_MS);
    await ports.costs.close();
    await ports.agents.close();
    rmSync(daemonPidFile(env), { force: true });
    lock[Symbol.dispose]();
    removeIfEmpty(runDir(env));
  };
  return { stop: lifetime.stop, stopped: end() };
}

/** Nothing of a stopped daemon stays under /run; what a lab or others keep there stays. */
function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOTEMPTY" && code !== "ENOENT" && code !== "EBUSY") throw error;
  }
}
