/** The services behind the API, put together from the ports. */
import { AttachService } from "./attach.js";
import { ContainerService } from "./containers.js";
import { History } from "./history.js";
import { ContainerLocks } from "./locks.js";
import { MigrationService } from "./migrations.js";
import type { DaemonLog, DaemonPorts } from "./ports.js";
import { Recoverer } from "./recoverer.js";
import { RunService } from "./run.js";
import { VmService } from "./vms.js";
import { VolumeService } from "./volumes.js";

export interface Services {
  readonly vms: VmService;
  readonly containers: ContainerService;
  readonly attachments: AttachService;
  readonly volumes: VolumeService;
  readonly runs: RunService;
  readonly migrations: MigrationService;
  readonly recoverer: Recoverer;
  readonly locks: ContainerLocks;
  readonly log: DaemonLog;
}

export function createServices(ports: DaemonPorts, historyDirectory: string): Services {
  const { engine, log } = ports;
  const locks = new ContainerLocks();
  const containers = new ContainerService(ports, locks);
  const volumes = new VolumeService(ports);
  const history = new History(historyDirectory, log);
  const onUnsettled = (): void => recoverer.kick();
  const migrations = new MigrationService({ engine, containers, locks, history, log, onUnsettled });
  const recoverer = new Recoverer((signal) => migrations.recover(signal), ports.limits.recoveryRetry, log);
  return {
    vms: new VmService(ports),
    containers,
    attachments: new AttachService(ports, containers),
    volumes,
    runs: new RunService(ports, containers, volumes, locks),
    migrations,
    recoverer,
    locks,
    log,
  };
}
