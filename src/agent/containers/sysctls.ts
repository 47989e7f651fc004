/**
 * Kernel parameters of a container's network namespace (linux.sysctl of its configuration). runc sets them when it starts a
 * container, but not when it restores one, and CRIU leaves a network namespace alone that it did not make. Those of the other
 * namespaces CRIU carries (criu/ipc_ns.c, criu/uts_ns.c).
 */
import { MwarpError } from "../../errors.js";
import type { ContainerSpec } from "../../protocol/container.js";
import { containerPaths } from "../paths.js";
import { mustRun } from "../process.js";

/** Lines "PATH VALUE", paths below /proc/sys, of which a dot in the name is a slash (as runc has it). */
export function networkSysctls(spec: ContainerSpec): string[] {
  const linux = spec.oci.linux;
  const all = typeof linux === "object" && linux !== null && "sysctl" in linux ? linux.sysctl : null;
  return Object.entries(typeof all === "object" && all !== null ? all : {})
    .filter(([name]) => name.startsWith("net."))
    .map(([name, value]) => `${name.replaceAll(".", "/")} ${String(value)}`);
}

/** `MWARP_E_RUNTIME` naming the parameter that this kernel does not take, or that is none. */
export async function setNetworkSysctls(spec: ContainerSpec): Promise<void> {
  const lines = networkSysctls(spec);
  if (lines.length === 0) return;
  // The configuration may come from a guest that lies: a line of its own would be another parameter, of this VM's kernel.
  const broken = lines.find((line) => line.includes("\n"));
  if (broken !== undefined)
    throw new MwarpError("MWARP_E_RUNTIME", `no kernel parameter: ${JSON.stringify(broken)}`);
  const script = 'while read -r path value; do printf %s "$value" > "/proc/sys/$path" || exit 1; done';
  const { netns } = containerPaths(spec.name);
  await mustRun(["nsenter", `--net=${netns}`, "sh", "-c", script], { input: `${lines.join("\n")}\n` });
}
