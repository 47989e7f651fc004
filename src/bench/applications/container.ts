/** The container of an application. */
import type { DaemonClient } from "../../daemon/client.js";
import type { LabStatus } from "../../lab/index.js";
import { plainContainer } from "../../protocol/api.js";
import type { Application } from "../records.js";
import { programs } from "./programs.js";

/** What a session needs to know of a lab; a `LabStatus` has it. */
export interface ApplicationLab extends Pick<LabStatus, "namespace" | "rootfs"> {
  readonly vms: readonly { readonly endpoint: { readonly name: string } }[];
}

interface WantedContainer {
  readonly application: Application;
  /** Size of the data. */
  readonly bytes: number;
  readonly daemon: DaemonClient;
  readonly lab: ApplicationLab;
  /** Names of the VMs that it will be in. */
  readonly vms: readonly string[];
  readonly signal: AbortSignal;
}

export const containerName = (application: Application): string => `bench-${application}`;

/** Starts the container in both VMs, one after the other; the one that stays is in the first. Gives its address. */
export async function startContainer(wanted: WantedContainer): Promise<string> {
  const { application, bytes, daemon, lab, signal, vms } = wanted;
  const program = programs[application];
  const name = containerName(application);
  const rootfs = program.rootfs(lab);
  try {
    let address = "";
    for (const vm of vms.toReversed()) {
      await daemon.removeIfThere(name);
      const argv = program.command(program.port, bytes);
      const listing = await daemon.run(plainContainer(name, vm, rootfs.directory, argv), signal);
      address = listing.container.spec.network.ipv4;
    }
    return address;
  } finally {
    rootfs.end();
  }
}
