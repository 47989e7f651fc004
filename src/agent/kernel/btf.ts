/** Layout of kernel structures from the kernel's own type information (BTF). Only what is asked for is looked at. */
import { MwarpError } from "../../errors.js";

const MAGIC = 0xeb9f;
const TYPE_BYTES = 12;
const TYPE_WORDS = 3;
const MEMBER_WORDS = 3;

const Kind = {
  int: 1,
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  typedef: 8,
  volatile: 9,
  const: 10,
  restrict: 11,
  funcProto: 13,
  var: 14,
  datasec: 15,
  declTag: 17,
  typeTag: 18,
  enum64: 19,
} as const;

/** Words that follow a type, by kind: fixed ones, and as many again for each element of its vlen. */
const fixedWords = new Uint8Array(32);
const eachWords = new Uint8Array(32);
fixedWords[Kind.int] = fixedWords[Kind.var] = fixedWords[Kind.declTag] = 1;
fixedWords[Kind.array] = 3;
eachWords[Kind.struct] = eachWords[Kind.union] = eachWords[Kind.datasec] = eachWords[Kind.enum64] = 3;
eachWords[Kind.enum] = eachWords[Kind.funcProto] = 2;
const lastKind = Kind.enum64;
const transparent = new Set<number>([Kind.typedef, Kind.volatile, Kind.const, Kind.restrict, Kind.typeTag]);

const broken = (what: string): MwarpError => new MwarpError("MWARP_E_UNSUPPORTED", `kernel BTF: ${what}`);

export class Btf {
  /** The type section in words: everything in it is. Word access is many times faster than a Buffer's. */
  readonly #words: Uint32Array;
  readonly #strings: Buffer;
  /** Where each type lies in #words, by type id. */
  readonly #offsets: Uint32Array;
  #count = 1;

  /** `data` is /sys/kernel/btf/vmlinux. Throws `MWARP_E_UNSUPPORTED` when it is not as documented. */
  constructor(data: Buffer) {
    if (data.length < 24 || data.readUInt16LE(0) !== MAGIC) throw broken("bad magic");
    const header = data.readUInt32LE(4);
    const [typeAt, typeBytes, stringAt, stringBytes] = [8, 12, 16, 20].map((at) => data.readUInt32LE(at)) as [
      number,
      number,
      number,
      number,
    ];
    if (header + Math.max(typeAt + typeBytes, stringAt + stringBytes) > data.length)
      throw broken("cut short");
    const types = data.subarray(header + typeAt, header + typeAt + typeBytes);
    this.#words = new Uint32Array(new Uint8Array(types).buffer, 0, typeBytes >> 2);
    this.#offsets = new Uint32Array(Math.floor(typeBytes / TYPE_BYTES) + 1);
    this.#strings = data.subarray(header + stringAt, header + stringAt + stringBytes);
    this.#index();
  }

  /** Size of a structure and byte offsets of the named members, those of nested anonymous structures included. */
  layout(name: string, members: readonly string[]): { bytes: number; offsets: Record<string, number> } {
    const at = this.#find(name, members);
    const offsets: Record<string, number> = {};
    for (const member of members) {
      const bits = this.#memberBits(at, this.#stringOffset(member), 0);
      if (bits === null || bits % 8 !== 0) throw broken(`struct ${name} has no member ${member}`);
      offsets[member] = bits / 8;
    }
    return { bytes: this.#words[at + 2] as number, offsets };
  }

  #index(): void {
    const words = this.#words;
    let at = 0;
    while (at + TYPE_WORDS <= words.length) {
      this.#offsets[this.#count++] = at;
      const info = words[at + 1] as number;
      const kind = (info >>> 24) & 0x1f;
      if (kind === 0 || kind > lastKind) throw broken(`unknown kind ${kind}`);
      at += TYPE_WORDS + (fixedWords[kind] as number) + (eachWords[kind] as number) * (info & 0xffff);
    }
    if (at !== words.length) throw broken("types are cut short");
  }

  /** Offset of a whole string in the string section; -1 when absent. */
  #stringOffset(text: string): number {
    const at = this.#strings.indexOf(`\0${text}\0`, 0, "latin1");
    return at < 0 ? -1 : at + 1;
  }

  /** The structure of that name which has all the members: a few names exist twice in a kernel. */
  #find(name: string, members: readonly string[]): number {
    const wanted = this.#stringOffset(name);
    for (let id = 1; wanted >= 0 && id < this.#count; id++) {
      const at = this.#offsets[id] as number;
      if (this.#words[at] !== wanted || this.#kind(at) !== Kind.struct) continue;
      if (members.every((member) => this.#memberBits(at, this.#stringOffset(member), 0) !== null)) return at;
    }
    throw broken(`no struct ${name}`);
  }

  #kind(at: number): number {
    return ((this.#words[at + 1] as number) >>> 24) & 0x1f;
  }

  #memberBits(at: number, nameOffset: number, depth: number): number | null {
    const info = this.#words[at + 1] as number;
    const hasBitfields = info >>> 31 === 1;
    if (nameOffset < 0 || depth > 8) return null;
    for (let i = 0; i < (info & 0xffff); i++) {
      const member = at + TYPE_WORDS + i * MEMBER_WORDS;
      const raw = this.#words[member + 2] as number;
      const bits = hasBitfields ? raw & 0xffffff : raw;
      const name = this.#words[member] as number;
      if (name === nameOffset) return bits;
      if (this.#strings[name] !== 0) continue;
      const nested = this.#structOf(this.#words[member + 1] as number);
      const inner = nested === null ? null : this.#memberBits(nested, nameOffset, depth + 1);
      if (inner !== null) return bits + inner;
    }
    return null;
  }

  #structOf(id: number): number | null {
    for (let step = 0; step < 16; step++) {
      if (id === 0 || id >= this.#count) return null;
      const at = this.#offsets[id] as number;
      const kind = this.#kind(at);
      if (kind === Kind.struct || kind === Kind.union) return at;
      if (!transparent.has(kind)) return null;
      id = this.#words[at + 2] as number;
    }
    return null;
  }
}
