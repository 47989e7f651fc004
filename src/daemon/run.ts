/** `mwarp run`: from a directory on the host to a running container in a VM. */
import { randomBytes } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import * as z from "zod/mini";
import { requireCommand } from "../container/command.js";
import type { ImageProcess } from "../container/image/config.js";
import type { RootfsArchive } from "../container/rootfs.js";
import { isMwarpError, MwarpError } from "../errors.js";
import { deliverRootfs } from "../migration/rootfs.js";
import type { ContainerListing, RunRequest, RunSource } from "../protocol/api.js";
import { type ContainerSpec, type NetworkIdentity, namedVolumes } from "../protocol/container.js";
import { NEVER_RESTARTED } from "../protocol/restart.js";
import type { ContainerService } from "./containers.js";
import type { ContainerLocks } from "./locks.js";
import type { DaemonPorts, GuestAgent } from "./ports.js";
import type { VolumeService } from "./volumes.js";

const START_TIMEOUT_MS = 60_000;

const BundleConfigSchema = z.looseObject({ root: z.looseObject({ path: z.string() }) });

type RunPorts = Pick<DaemonPorts, "vms" | "agents" | "builder" | "limits" | "log">;

export class RunService {
  readonly #ports: RunPorts;
  readonly #containers: ContainerService;
  readonly #volumes: VolumeService;
  readonly #locks: ContainerLocks;
  /** Identities given to containers that no agent lists yet. */
  readonly #pending = new Set<NetworkIdentity>();

  constructor(ports: RunPorts, containers: ContainerService, volumes: VolumeService, locks: ContainerLocks) {
    this.#ports = ports;
    this.#containers = containers;
    this.#volumes = volumes;
    this.#locks = locks;
  }

  /**
   * Starts a container. The name must be free on every VM that answers.
   * @throws MWARP_E_VM_UNKNOWN, MWARP_E_NAME_TAKEN, MWARP_E_BUSY, MWARP_E_USAGE (directory), MWARP_E_RUNTIME
   */
  async run(request: RunRequest, signal: AbortSignal): Promise<ContainerListing> {
    this.#ports.vms.get(request.vm);
    using _lock = this.#locks.take(request.name, { what: "run" });
    await using source = await this.#source(request, signal);
    const { directory, argv, config, image } = source;
    // What is typed wrong is said before anything is packed or sent.
    if (argv?.[0] !== undefined)
      await requireCommand(directory, argv[0], {
        env: [...(image?.env ?? []), ...request.env],
        cwd: request.workdir ?? image?.cwd ?? "/",
      });
    await this.#refuseTakenName(request.name, signal);
    const volumes = namedVolumes(request.volumes).map(({ name }) => name);
    await this.#volumes.refuseTaken(volumes, request.vm, signal);
    const agent = await this.#ports.agents.agent(request.vm, signal);
    const archive = await this.#ports.builder.archive(directory, signal);
    await this.#upload(agent, archive, signal);
    const network = await this.#network(agent, request, signal);
    try {
      const spec = this.#ports.builder.spec({
        name: request.name,
        id: randomBytes(16).toString("hex"),
        rootfs: archive.digest,
        network,
        hostname: request.hostname ?? request.name,
        runtime: request.runtime,
        createdAt: new Date().toISOString(),
        argv,
        env: request.env,
        workdir: request.workdir,
        memoryLimitBytes: request.memoryLimitBytes,
        terminal: request.terminal,
        bundleConfig: config,
        image,
        volumes: request.volumes ?? [],
        restart: request.restart,
        health: request.health,
      });
      return await this.#start(agent, request.vm, spec, signal);
    } finally {
      this.#pending.delete(network);
    }
  }

  /** An image is unpacked, and gone again when it has been packed as a root file system. */
  async #source({ name, source }: RunRequest, signal: AbortSignal): Promise<Source & AsyncDisposable> {
    if (source.kind !== "image")
      return { ...(await readSource(source)), image: null, [Symbol.asyncDispose]: async () => undefined };
    // To unpack one may take long.
    await this.#refuseTakenName(name, signal);
    const unpacked = await this.#ports.builder.unpack(source, signal);
    return {
      directory: unpacked.rootfs,
      argv: unpacked.process.argv,
      config: null,
      image: unpacked.process,
      [Symbol.asyncDispose]: () => unpacked[Symbol.asyncDispose](),
    };
  }

  async #refuseTakenName(name: string, signal: AbortSignal): Promise<void> {
    const { containers } = await this.#containers.list(signal, this.#ports.limits.find);
    const holder = containers.find((item) => item.container.spec.name === name);
    if (holder === undefined) return;
    const { vm, container } = holder;
    throw new MwarpError(
      "MWARP_E_NAME_TAKEN",
      `the name "${name}" is taken by a ${container.status} container on ${vm}`,
      { hint: `Choose another name, or remove that container: mwarp rm ${name}` },
    );
  }

  async #network(agent: GuestAgent, request: RunRequest, signal: AbortSignal): Promise<NetworkIdentity> {
    const [{ containers }, guest] = await Promise.all([
      this.#containers.list(signal, this.#ports.limits.find),
      agent.call("info", {}, { signal, timeoutMs: this.#ports.limits.find }),
    ]);
    const taken = containers.map((item) => item.container.spec.network);
    // An address that nobody asked for must not keep a container from a VM whose kernel has no use for it.
    const ipv6 = request.ipv6 ?? (guest.ipv6 ? null : "none");
    const network = this.#ports.builder.network([...taken, ...this.#pending], { ...request, ipv6 });
    this.#pending.add(network);
    return network;
  }

  async #upload(agent: GuestAgent, archive: RootfsArchive, signal: AbortSignal): Promise<void> {
    const started = performance.now();
    const bytes = await deliverRootfs(agent, archive.digest, archive.file, signal);
    if (bytes === 0) return;
    const fields = { digest: archive.digest, bytes, ms: performance.now() - started };
    this.#ports.log.info(fields, "root file system uploaded");
  }

  /** A container that did not start must not keep its name: what is left of it goes. */
  async #start(
    agent: GuestAgent,
    vm: string,
    spec: ContainerSpec,
    signal: AbortSignal,
  ): Promise<ContainerListing> {
    const { name } = spec;
    try {
      const { pid } = await agent.call("container.run", { spec }, { signal, timeoutMs: START_TIMEOUT_MS });
      return {
        vm,
        container: {
          spec,
          status: "running",
          pid,
          memoryBytes: 0,
          exitCode: null,
          outOfMemory: false,
          held: null,
          restart: NEVER_RESTARTED,
          health: spec.health === null ? null : { status: "starting", failingStreak: 0, results: [] },
        },
      };
    } catch (error) {
      // By id: a container of that name that was there before is somebody else's.
      await agent
        .call("container.remove", { name, id: spec.id, force: true }, { timeoutMs: START_TIMEOUT_MS })
        .catch((left: unknown) => {
          if (isMwarpError(left, "MWARP_E_CONTAINER_UNKNOWN")) return;
          this.#ports.log.warn(
            { err: left, name, vm },
            "a container that did not start could not be cleared",
          );
        });
      throw error;
    }
  }
}

interface Source {
  readonly directory: string;
  readonly argv: readonly string[] | null;
  readonly config: Readonly<Record<string, unknown>> | null;
  readonly image: ImageProcess | null;
}

async function readSource(source: Exclude<RunSource, { kind: "image" }>): Promise<Omit<Source, "image">> {
  if (source.kind === "rootfs") {
    await requireDirectory(source.directory, "--rootfs");
    return { directory: source.directory, argv: source.argv, config: null };
  }
  await requireDirectory(source.directory, "--bundle");
  const file = path.join(source.directory, "config.json");
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new MwarpError("MWARP_E_USAGE", `${file} cannot be read`, {
      hint: "--bundle takes an OCI bundle: a directory with config.json and the root file system.",
      cause,
    });
  });
  const config = parseConfig(text, file);
  const directory = path.resolve(source.directory, config.root.path);
  await requireDirectory(directory, "root.path of the bundle");
  return { directory, argv: null, config };
}

function parseConfig(text: string, file: string): z.infer<typeof BundleConfigSchema> {
  try {
    return BundleConfigSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new MwarpError("MWARP_E_USAGE", `${file} is not an OCI runtime configuration`, {
      hint: "It must be JSON and name root.path; `runc spec` writes one.",
      cause,
    });
  }
}

async function requireDirectory(directory: string, what: string): Promise<void> {
  const found = await stat(directory).catch(() => null);
  if (found?.isDirectory() !== true)
    throw new MwarpError("MWARP_E_USAGE", `${what}: ${directory} is not a directory`);
}
