/** Named volumes on all VMs. */
import { MwarpError } from "../errors.js";
import type { VolumeList, VolumeListing } from "../protocol/api.js";
import { silenceOf } from "./containers.js";
import { errorBody } from "./errors.js";
import type { DaemonPorts } from "./ports.js";

type VolumePorts = Pick<DaemonPorts, "vms" | "agents" | "limits">;

export class VolumeService {
  readonly #ports: VolumePorts;

  constructor(ports: VolumePorts) {
    this.#ports = ports;
  }

  /** All agents are asked at once; a VM that does not answer in time is named, and fails nothing. */
  async list(outer: AbortSignal): Promise<VolumeList> {
    const timeoutMs = this.#ports.limits.find;
    const signal = AbortSignal.any([outer, AbortSignal.timeout(timeoutMs)]);
    const result: VolumeList = { volumes: [], unreachable: [] };
    await Promise.all(
      this.#ports.vms.list().map(async ({ name: vm }) => {
        try {
          const agent = await this.#ports.agents.agent(vm, signal);
          const { volumes } = await agent.call("volume.list", {}, { signal, timeoutMs });
          for (const volume of volumes) result.volumes.push({ vm, ...volume });
        } catch (error) {
          result.unreachable.push({ vm, error: errorBody(silenceOf(vm, error, signal)) });
        }
      }),
    );
    outer.throwIfAborted();
    result.volumes.sort((a, b) => `${a.name} ${a.vm}`.localeCompare(`${b.name} ${b.vm}`));
    return result;
  }

  /**
   * What a new container in `vm` may not have: a volume that another container has, or that rests in another VM, where it would stay while
   * the container began with an empty one of its name.
   * @throws MWARP_E_BUSY, MWARP_E_NAME_TAKEN
   */
  async refuseTaken(names: readonly string[], vm: string, signal: AbortSignal): Promise<void> {
    if (names.length === 0) return;
    const { volumes } = await this.list(signal);
    for (const volume of volumes.filter(({ name }) => names.includes(name))) {
      if (volume.container !== null)
        throw new MwarpError(
          "MWARP_E_BUSY",
          `the volume "${volume.name}" is container ${volume.container}'s on ${volume.vm}`,
          {
            hint: "A named volume is one container's at a time: use another name, or remove that container.",
          },
        );
      if (volume.vm !== vm)
        throw new MwarpError("MWARP_E_NAME_TAKEN", `the volume "${volume.name}" is on ${volume.vm}`, {
          hint: `Run the container there, or remove the volume: mwarp volume rm ${volume.name}`,
        });
    }
  }

  /** @throws MWARP_E_VOLUME_UNKNOWN, MWARP_E_NAME_TAKEN when several VMs have one and none was named, MWARP_E_BUSY */
  async remove(name: string, vm: string | null, signal: AbortSignal): Promise<VolumeListing> {
    const { volumes, unreachable } = await this.list(signal);
    const found = volumes.filter((volume) => volume.name === name && (vm === null || volume.vm === vm));
    const [first] = found;
    if (first === undefined) {
      const silent = unreachable.map((item) => `; ${item.vm} does not answer`).join("");
      throw new MwarpError("MWARP_E_VOLUME_UNKNOWN", `there is no volume "${name}"${silent}`);
    }
    if (found.length > 1)
      throw new MwarpError(
        "MWARP_E_NAME_TAKEN",
        `${found.map((volume) => volume.vm).join(" and ")} each have a volume "${name}"`,
        { hint: "Say which with --vm." },
      );
    if (first.container !== null)
      throw new MwarpError("MWARP_E_BUSY", `the volume "${name}" is container ${first.container}'s`, {
        hint: `Remove the container with its volumes: mwarp rm --volumes ${first.container}`,
      });
    const agent = await this.#ports.agents.agent(first.vm, signal);
    await agent.call("volume.remove", { name }, { signal, timeoutMs: this.#ports.limits.find });
    return first;
  }
}
