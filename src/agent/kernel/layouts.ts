/** Layout of kernel structures from the kernel's own type information, which is megabytes: the C program reads it (native/guest/btf.c). */
import { MwarpError } from "../../errors.js";
import { HELPER } from "../paths.js";
import { run } from "../process.js";

const KERNEL_TYPES = "/sys/kernel/btf/vmlinux";

/** `STRUCT:MEMBER,...` or `FUNCTION()`. Of a structure that has all the members named together. */
export type LayoutRequest = `${string}:${string}` | `${string}()`;

/** A bit field: its first bit from the start of the structure, and how many. */
export interface BitField {
  readonly bit: number;
  readonly bits: number;
}

const missing = (what: string): MwarpError => new MwarpError("MWARP_E_UNSUPPORTED", `kernel BTF: no ${what}`);

export class Layouts {
  readonly #numbers: ReadonlyMap<string, readonly number[]>;

  /** @param text lines "NAME NUMBER..." */
  constructor(text: string) {
    const lines = text.split("\n").filter((line) => line !== "");
    this.#numbers = new Map(
      lines.map((line) => {
        const [name = "", ...numbers] = line.split(" ");
        return [name, numbers.map(Number)];
      }),
    );
  }

  /** Whether there is a structure with that member, and with those that were asked for in the same request. */
  has(structure: string, member: string): boolean {
    return this.#numbers.has(`${structure}.${member}`);
  }

  /** Size of a structure. @throws MWARP_E_UNSUPPORTED */
  bytes(structure: string): number {
    return this.#get(`struct ${structure}`, structure)[0] as number;
  }

  /** Byte offset of a member. @throws MWARP_E_UNSUPPORTED */
  offset(structure: string, member: string): number {
    const [bit = 0] = this.#get(`struct ${structure}`, structure, member);
    if (bit % 8 !== 0) throw missing(`byte of struct ${structure} with ${member}`);
    return bit / 8;
  }

  /** @throws MWARP_E_UNSUPPORTED */
  bitField(structure: string, member: string): BitField {
    const [bit = 0, bits = 0] = this.#get(`struct ${structure}`, structure, member);
    if (bits === 0) throw missing(`bit field ${member} in struct ${structure}`);
    return { bit, bits };
  }

  /** By which BPF programs name a function of the kernel; null when there is none. */
  functionId(name: string): number | null {
    return this.#numbers.get(`${name}()`)?.[0] ?? null;
  }

  #get(what: string, ...path: readonly string[]): readonly number[] {
    const found = this.#numbers.get(path.join("."));
    if (found === undefined) throw missing(path.length > 1 ? `${what} with ${path[1]}` : what);
    return found;
  }
}

/** What could be found of the `requests`. @throws MWARP_E_UNSUPPORTED when the kernel's types are not as documented */
export async function readLayouts(
  requests: readonly LayoutRequest[],
  helper = HELPER,
  file = KERNEL_TYPES,
): Promise<Layouts> {
  const { code, stdout, stderr } = await run([helper, "btf", file, ...requests]);
  if (code !== 0) throw new MwarpError("MWARP_E_UNSUPPORTED", `kernel BTF: ${stderr.trim()}`);
  return new Layouts(stdout);
}
