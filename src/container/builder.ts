/** What the daemon needs to make a container, in one object. */
import { MwarpError } from "../errors.js";
import {
  type ContainerSpec,
  hasTerminal,
  type NetworkIdentity,
  type RuntimeName,
  type Volume,
} from "../protocol/container.js";
import type { HealthWish } from "../protocol/health.js";
import type { RestartPolicy } from "../protocol/restart.js";
import type { Window } from "../protocol/terminal.js";
import { healthCheck } from "./health.js";
import { type ImageProcess, mergeEnv } from "./image/config.js";
import { type UnpackedImage, unpackImage, type WantedImage } from "./image/unpack.js";
import { allocateNetwork, type WantedIdentity } from "./network.js";
import { adaptBundle, makeOciConfig, type OciConfig } from "./oci.js";
import { archiveRootfs, type RootfsArchive } from "./rootfs.js";
import { checkVolumes } from "./volumes.js";

export interface SpecFacts {
  readonly name: string;
  readonly id: string;
  readonly rootfs: string;
  readonly network: NetworkIdentity;
  readonly hostname: string;
  readonly runtime: RuntimeName;
  readonly createdAt: string;
  /** Null for a bundle that keeps its own command. */
  readonly argv: readonly string[] | null;
  readonly env: readonly string[];
  readonly workdir: string | null;
  readonly memoryLimitBytes: number | null;
  /** Null for none, or a bundle's own. */
  readonly terminal: Window | null;
  /** config.json of a bundle, parsed; null for a bare root file system. */
  readonly bundleConfig: Readonly<Record<string, unknown>> | null;
  /** What an image says of its process; null for the other sources. */
  readonly image: ImageProcess | null;
  readonly volumes: readonly Volume[];
  readonly restart: RestartPolicy;
  readonly health: HealthWish;
}

export interface ContainerBuilder {
  /** @throws MWARP_E_USAGE, MWARP_E_CANCELLED; see `archiveRootfs`. */
  archive(directory: string, signal: AbortSignal): Promise<RootfsArchive>;
  /** @throws MWARP_E_USAGE, MWARP_E_CANCELLED; see `unpackImage`. */
  unpack(image: WantedImage, signal: AbortSignal): Promise<UnpackedImage>;
  /** @throws MWARP_E_USAGE, MWARP_E_UNSUPPORTED; see `adaptBundle`. */
  spec(facts: SpecFacts): ContainerSpec;
  /** @throws MWARP_E_USAGE, MWARP_E_NAME_TAKEN, MWARP_E_UNSUPPORTED; see `allocateNetwork`. */
  network(taken: readonly NetworkIdentity[], wanted: WantedIdentity): NetworkIdentity;
}

/** @param store directory for root file system archives (`rootfsCacheDir()`). */
export function createContainerBuilder(store: string): ContainerBuilder {
  return {
    archive: (directory, signal) => archiveRootfs(directory, store, signal),
    unpack: (image, signal) => unpackImage(image, store, signal),
    spec: ({ name, id, rootfs, network, hostname, runtime, createdAt, restart, health, ...facts }) => {
      checkVolumes(facts.volumes);
      const oci = ociConfig({ hostname, ...facts });
      if (runtime !== "runc" && hasTerminal({ oci })) throw noTerminal(runtime);
      return {
        name,
        id,
        rootfs,
        network,
        hostname,
        runtime,
        oci,
        volumes: [...facts.volumes],
        createdAt,
        restart,
        health: healthCheck(health, facts.image?.health ?? null),
      };
    },
    network: (taken, { ipv4, ipv6, mac }) => allocateNetwork(taken, { ipv4, ipv6, mac }),
  };
}

/** Nothing has shown yet that a terminal comes through a restore by it. */
const noTerminal = (runtime: RuntimeName): MwarpError =>
  new MwarpError("MWARP_E_UNSUPPORTED", `a container of ${runtime} has no terminal that could move`, {
    hint: "Leave the terminal away, or use --runtime runc.",
  });

function ociConfig({
  argv,
  env,
  workdir,
  hostname,
  memoryLimitBytes,
  terminal,
  bundleConfig,
  image,
  volumes,
}: Pick<
  SpecFacts,
  | "argv"
  | "env"
  | "workdir"
  | "hostname"
  | "memoryLimitBytes"
  | "terminal"
  | "bundleConfig"
  | "image"
  | "volumes"
>): OciConfig {
  if (bundleConfig !== null) {
    return adaptBundle(bundleConfig, {
      argv,
      env,
      cwd: workdir,
      hostname,
      memoryLimitBytes,
      terminal,
      volumes,
    });
  }
  if (image !== null) {
    const { argv, user, annotations } = image;
    const merged = { argv, env: mergeEnv(image.env, env), cwd: workdir ?? image.cwd };
    return makeOciConfig({ ...merged, hostname, memoryLimitBytes, terminal, user, annotations });
  }
  if (argv === null || argv.length === 0) throw new MwarpError("MWARP_E_USAGE", "no command given");
  return makeOciConfig({ argv, env, cwd: workdir ?? "/", hostname, memoryLimitBytes, terminal });
}
