/** All checks, in order. A daemon that does not run is no fault: nothing is started for the doctor's sake. */
import { MwarpError, toMwarpError } from "../../errors.js";
import { knownKvmVerdict, labStatus, missingPackages } from "../../lab/index.js";
import { currentBuild } from "../../protocol/build.js";
import type { CostFile } from "../../protocol/costs.js";
import { connectIfRunning } from "../connect.js";
import type { Io } from "../io.js";
import { type Check, fail, ok, warn } from "./check.js";
import { judgeCosts, readCosts } from "./costs.js";
import { judgeHost, readHostFacts } from "./host.js";
import { judgeLeftovers, judgeVm } from "./vms.js";

export interface Diagnosis {
  readonly checks: readonly Check[];
  /** What exchanges cost here; null when that is not known. */
  readonly costs: CostFile | null;
}

export async function diagnose(io: Io): Promise<Diagnosis> {
  const host = judgeHost(readHostFacts(io.isRoot, { missingPackages, knownKvmVerdict }));
  const kept = readCosts(io.env);
  const checks = [...host, judgeCosts(kept), judgeLab(), ...(await daemonAndVms(io))];
  return { checks, costs: "costs" in kept ? kept.costs : null };
}

function judgeLab(): Check {
  const { state, problems } = labStatus();
  if (state !== "broken") return ok("lab", state);
  return fail("lab", problems.join("; "), "mwarp lab down");
}

async function daemonAndVms(io: Io): Promise<Check[]> {
  try {
    const found = await connectIfRunning(io);
    if (found === null) return [ok("daemon", "does not run; it starts with the first command that needs it")];
    const { client, version } = found;
    const [{ vms }, containers, { migrations }] = await Promise.all([
      client.vms(),
      client.containers(),
      client.migrations(),
    ]);
    const running = new Set(migrations.filter(({ state }) => state === "running").map(({ id }) => id));
    return [
      judgeBuild(version),
      ...(vms.length === 0
        ? [warn("vms", "no VM is known", "mwarp lab up, or mwarp vm attach")]
        : vms.flatMap(judgeVm)),
      judgeLeftovers(containers, running),
    ];
  } catch (error) {
    if (!(error instanceof MwarpError)) throw error;
    const { message, hint } = toMwarpError(error);
    return [fail("daemon", message, hint)];
  }
}

function judgeBuild(version: { readonly build: string; readonly pid: number }): Check {
  const mine = currentBuild().build;
  if (version.build === mine) return ok("daemon", `pid ${version.pid}, build ${mine}`);
  return warn(
    "daemon",
    `build ${version.build}, this command ${mine}`,
    "The next command restarts it; or: mwarp daemon stop",
  );
}
