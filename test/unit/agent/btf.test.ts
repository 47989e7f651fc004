import { describe, expect, it } from "vitest";
import { Btf } from "../../../src/agent/kernel/btf.js";

interface Member {
  name: string;
  type: number;
  bits: number;
}

/** Builds a BTF blob; type ids are 1, 2, ... in the order of the calls. */
class Blob {
  #strings = "\0";
  #types: Buffer[] = [];

  #name(text: string): number {
    if (text === "") return 0;
    const known = this.#strings.indexOf(`\0${text}\0`);
    if (known >= 0) return known + 1;
    this.#strings += `${text}\0`;
    return this.#strings.length - text.length - 1;
  }

  #words(...words: number[]): void {
    const bytes = Buffer.alloc(words.length * 4);
    for (const [i, word] of words.entries()) bytes.writeUInt32LE(word >>> 0, i * 4);
    this.#types.push(bytes);
  }

  int(name: string): this {
    this.#words(this.#name(name), 1 << 24, 4, 32);
    return this;
  }

  typedef(name: string, type: number): this {
    this.#words(this.#name(name), 8 << 24, type);
    return this;
  }

  composite(
    kind: 4 | 5,
    name: string,
    bytes: number,
    members: Member[],
    bitfields: "bitfields" | "plain" = "plain",
  ): this {
    const flag = bitfields === "bitfields" ? 1 << 31 : 0;
    this.#words(
      this.#name(name),
      flag | (kind << 24) | members.length,
      bytes,
      ...members.flatMap((member) => [this.#name(member.name), member.type, member.bits]),
    );
    return this;
  }

  build(): Buffer {
    const types = Buffer.concat(this.#types);
    const strings = Buffer.from(this.#strings, "latin1");
    const header = Buffer.alloc(24);
    header.writeUInt16LE(0xeb9f, 0);
    header.writeUInt8(1, 2);
    header.writeUInt32LE(24, 4);
    header.writeUInt32LE(types.length, 12);
    header.writeUInt32LE(types.length, 16);
    header.writeUInt32LE(strings.length, 20);
    return Buffer.concat([header, types, strings]);
  }
}

describe("Btf", () => {
  it("finds members through nested anonymous structures, unions and typedefs", () => {
    const blob = new Blob()
      .int("int")
      .composite(4, "", 16, [
        { name: "lru", type: 1, bits: 0 },
        { name: "mapping", type: 1, bits: 64 },
      ])
      .composite(5, "", 16, [{ name: "", type: 2, bits: 0 }])
      .typedef("alias", 3)
      .composite(4, "page", 64, [
        { name: "flags", type: 1, bits: 0 },
        { name: "", type: 4, bits: 64 },
        { name: "_refcount", type: 1, bits: 416 },
      ]);
    expect(new Btf(blob.build()).layout("page", ["flags", "mapping", "_refcount"])).toEqual({
      bytes: 64,
      offsets: { flags: 0, mapping: 16, _refcount: 52 },
    });
  });

  it("reads offsets of a structure that has bit fields", () => {
    const blob = new Blob().int("int").composite(
      4,
      "task_struct",
      128,
      [
        { name: "flag", type: 1, bits: (1 << 24) | 3 },
        { name: "pid", type: 1, bits: 512 },
      ],
      "bitfields",
    );
    expect(new Btf(blob.build()).layout("task_struct", ["pid"]).offsets).toEqual({ pid: 64 });
  });

  it("takes the structure that has the members when two share a name", () => {
    const blob = new Blob()
      .int("int")
      .composite(4, "page", 8, [{ name: "other", type: 1, bits: 0 }])
      .composite(4, "page", 64, [{ name: "flags", type: 1, bits: 32 }]);
    expect(new Btf(blob.build()).layout("page", ["flags"])).toEqual({ bytes: 64, offsets: { flags: 4 } });
  });

  it("refuses what is missing or cut short instead of guessing", () => {
    const blob = new Blob()
      .int("int")
      .composite(4, "page", 64, [{ name: "flags", type: 1, bits: 0 }])
      .build();
    expect(() => new Btf(blob).layout("page", ["_refcount"])).toThrow(/no struct page/);
    expect(() => new Btf(blob).layout("mm_struct", ["pgd"])).toThrow(/no struct mm_struct/);
    expect(() => new Btf(blob.subarray(0, blob.length - 10))).toThrow(/cut short/);
    expect(() => new Btf(Buffer.from("no BTF at all, but long enough"))).toThrow(/magic/);
  });
});
