/** The reader of the kernel's type information, which is C (native/guest/btf.c), with types made by hand. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type LayoutRequest, type Layouts, readLayouts } from "../../../src/agent/kernel/layouts.js";
import { tcpLayout, tcpRequests } from "../../../src/agent/kernel/tcp-layout.js";
import { projectRoot } from "../../support/mwarp.js";

const HELPER = path.join(projectRoot, "dist/native/mwarp-guest");
const files = mkdtempSync(path.join(tmpdir(), "mwu-btf-"));
afterAll(() => rmSync(files, { recursive: true }));

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

  func(name: string, prototype: number): this {
    this.#words(this.#name(name), 12 << 24, prototype);
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

function read(data: Buffer, ...requests: readonly LayoutRequest[]): Promise<Layouts> {
  const file = path.join(files, "types");
  writeFileSync(file, data);
  return readLayouts(requests, HELPER, file);
}

describe("the layout of kernel structures", () => {
  it("has members of nested anonymous structures, unions and typedefs", async () => {
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
    const layouts = await read(blob.build(), "page:flags,mapping,_refcount");
    expect(layouts.bytes("page")).toBe(64);
    expect(["flags", "mapping", "_refcount"].map((name) => layouts.offset("page", name))).toEqual([
      0, 16, 52,
    ]);
  });

  it("has bit fields, and what lies among them", async () => {
    const blob = new Blob().int("int").composite(
      4,
      "task_struct",
      128,
      [
        { name: "flag", type: 1, bits: (2 << 24) | 3 },
        { name: "pid", type: 1, bits: 512 },
      ],
      "bitfields",
    );
    const layouts = await read(blob.build(), "task_struct:flag,pid");
    expect(layouts.offset("task_struct", "pid")).toBe(64);
    expect(layouts.bitField("task_struct", "flag")).toEqual({ bit: 3, bits: 2 });
    expect(() => layouts.offset("task_struct", "flag")).toThrow(/no byte/);
    expect(() => layouts.bitField("task_struct", "pid")).toThrow(/no bit field pid/);
  });

  it("is that of the structure with all members when two share a name", async () => {
    const blob = new Blob()
      .int("int")
      .composite(4, "page", 8, [{ name: "other", type: 1, bits: 0 }])
      .composite(4, "page", 64, [{ name: "flags", type: 1, bits: 32 }]);
    const layouts = await read(blob.build(), "page:flags");
    expect([layouts.bytes("page"), layouts.offset("page", "flags")]).toEqual([64, 4]);
  });

  it("names functions by their type", async () => {
    const blob = new Blob().int("int").func("other", 1).func("wanted", 1);
    const layouts = await read(blob.build(), "wanted()", "missing()");
    expect([layouts.functionId("wanted"), layouts.functionId("missing")]).toEqual([3, null]);
  });

  it("is not guessed where something is missing or cut short", async () => {
    const blob = new Blob()
      .int("int")
      .composite(4, "page", 64, [{ name: "flags", type: 1, bits: 0 }])
      .build();
    const layouts = await read(blob, "page:flags,_refcount", "mm_struct:pgd");
    expect(layouts.has("page", "flags")).toBe(false);
    expect(() => layouts.offset("page", "flags")).toThrow(
      expect.objectContaining({ code: "MWARP_E_UNSUPPORTED" }),
    );
    expect(() => layouts.bytes("mm_struct")).toThrow(/no struct mm_struct/);
    for (const broken of [
      blob.subarray(0, blob.length - 10),
      Buffer.from("no BTF at all, but long enough to be"),
    ])
      await expect(read(broken, "page:flags")).rejects.toMatchObject({ code: "MWARP_E_UNSUPPORTED" });
  });

  it("is refused by name where a kernel's TCP is another", async () => {
    const layouts = await read(new Blob().int("int").build(), ...tcpRequests);
    expect(() => tcpLayout(layouts)).toThrow(expect.objectContaining({ code: "MWARP_E_UNSUPPORTED" }));
  });
});
