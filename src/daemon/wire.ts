/** The real parts behind the daemon's ports. */
import { createContainerBuilder } from "../container/builder.js";
import { Engine } from "../migration/engine.js";
import { costsFile, type Environment, labFile, rootfsCacheDir, stateDir, vmsFile } from "../paths.js";
import { VmmInspector } from "../vm/inspector.js";
import { VmRegistry } from "../vm/registry.js";
import { describeHost, HostCosts, hasFreeHugePages, isHostBusy } from "../warp/host-costs.js";
import { measureCosts } from "../warp/measure/measure-costs.js";
import { LinkPool } from "./agents.js";
import type { DaemonLimits, DaemonLog, DaemonPorts } from "./ports.js";
import { createWorld } from "./world.js";

/** An agent answers within milliseconds; under emulation on a loaded host it has taken seconds. */
const limits: DaemonLimits = { listing: 5_000, find: 20_000, recoveryRetry: 5_000 };

export function wirePorts(env: Environment, log: DaemonLog): DaemonPorts {
  const vms = new VmRegistry({ lab: labFile(env), attached: vmsFile(env) });
  const inspector = new VmmInspector();
  const agents = new LinkPool(vms);
  const world = createWorld({ vms, inspector, agents, limits, rootfsStore: rootfsCacheDir(env) });
  const parts = {
    describe: describeHost,
    isBusy: isHostBusy,
    hasHugePages: hasFreeHugePages,
    measure: measureCosts,
  };
  const costs = new HostCosts(costsFile(env), parts, log);
  return {
    vms,
    inspector,
    agents,
    builder: createContainerBuilder(rootfsCacheDir(env)),
    engine: new Engine(world, stateDir(env), ownCommand(), costs),
    costs,
    limits,
    log,
  };
}

/** What this process was started with. */
const ownCommand = (): [string, ...string[]] => [
  process.execPath,
  ...process.execArgv,
  ...process.argv.slice(1),
];
