/** The VMs mWarp knows: the lab's (lab.json) and the attached ones (vms.json). The files are the truth; nothing is cached. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";
import { labFile, vmsFile } from "../paths.js";
import { VmEndpointSchema } from "./endpoint.js";
import { isAlive } from "./process.js";
import { QmpClient } from "./qmp.js";
import type { VmEndpoint } from "./types.js";

/** The part of both files that concerns others. */
const VmListSchema = z.object({ vms: z.array(VmEndpointSchema) });

export interface RegistryFiles {
  readonly lab: string;
  readonly attached: string;
}

export class VmRegistry {
  readonly #files: RegistryFiles;

  constructor(files: RegistryFiles = { lab: labFile(), attached: vmsFile() }) {
    this.#files = files;
  }

  /** All known VMs, the lab's first. One that no longer runs stays listed. */
  list(): readonly VmEndpoint[] {
    return [...readList(this.#files.lab), ...readList(this.#files.attached)];
  }

  /** @throws MWARP_E_VM_UNKNOWN */
  get(name: string): VmEndpoint {
    const found = this.list().find((endpoint) => endpoint.name === name);
    if (found === undefined) throw new MwarpError("MWARP_E_VM_UNKNOWN", `no VM is called ${name}`);
    return found;
  }

  /**
   * Writes a VM down. An attached VM whose process is gone gives its name up.
   * @throws MWARP_E_NAME_TAKEN; MWARP_E_VM_UNREACHABLE when no such process runs; MWARP_E_USAGE for a malformed endpoint.
   */
  attach(endpoint: VmEndpoint): void {
    const checked = VmEndpointSchema.safeParse(endpoint);
    if (!checked.success)
      throw new MwarpError("MWARP_E_USAGE", `not a VM endpoint: ${z.prettifyError(checked.error)}`);
    if (!isAlive(endpoint))
      throw new MwarpError("MWARP_E_VM_UNREACHABLE", `no process ${endpoint.pid} with that start time runs`);
    const taken = this.list().find((known) => known.name === endpoint.name);
    if (taken !== undefined && isAlive(taken))
      throw new MwarpError("MWARP_E_NAME_TAKEN", `a VM called ${endpoint.name} is known already`, {
        hint: `Choose another name, or forget it first: mwarp vm detach ${endpoint.name}`,
      });
    const others = readList(this.#files.attached).filter((known) => known.name !== endpoint.name);
    writeList(this.#files.attached, [...others, checked.data]);
  }

  /** Forgets an attached VM; it runs on. @throws MWARP_E_VM_UNKNOWN; MWARP_E_USAGE for a VM of the lab. */
  detach(name: string): void {
    const attached = readList(this.#files.attached);
    const others = attached.filter((known) => known.name !== name);
    if (others.length === attached.length) {
      this.get(name);
      throw new MwarpError("MWARP_E_USAGE", `${name} belongs to the lab`, {
        hint: "End the lab: mwarp lab down.",
      });
    }
    writeList(this.#files.attached, others);
  }
}

/**
 * Checks that an endpoint leads to a QEMU that answers.
 * @throws MWARP_E_VM_UNREACHABLE, MWARP_E_CANCELLED
 */
export async function verifyEndpoint(endpoint: VmEndpoint, signal?: AbortSignal): Promise<void> {
  if (!isAlive(endpoint))
    throw new MwarpError("MWARP_E_VM_UNREACHABLE", `no process ${endpoint.pid} with that start time runs`);
  const options = signal === undefined ? {} : { signal };
  using qmp = await QmpClient.open(endpoint.qmpSocket, options);
  await qmp.execute("query-status", {}, options);
}

function readList(file: string): readonly VmEndpoint[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  try {
    return z.parse(VmListSchema, JSON.parse(text)).vms;
  } catch (error) {
    throw new MwarpError("MWARP_E_INTERNAL", `${file} is damaged`, {
      hint: `Move ${file} away and start again.`,
      cause: error,
    });
  }
}

function writeList(file: string, vms: readonly VmEndpoint[]): void {
  mkdirSync(dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}.tmp`;
  writeFileSync(temporary, `${JSON.stringify({ vms }, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, file);
}
