/** Hard links that a dump has made, in its images. */
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { NamedFileEntrySchema, RemapFilePathEntrySchema } from "../../../src/criu/gen/remap_pb.js";
import { encodeImage } from "../../../src/criu/image.js";
import { madeLinks } from "../../../src/criu/links.js";
import { LinksSchema } from "../../../src/protocol/links.js";

const remap = (remapId: number, remapType?: number): Uint8Array =>
  toBinary(
    RemapFilePathEntrySchema,
    create(RemapFilePathEntrySchema, remapType === undefined ? { remapId } : { remapId, remapType }),
  );
const named = (id: number, name?: string): Uint8Array =>
  toBinary(
    NamedFileEntrySchema,
    create(NamedFileEntrySchema, name === undefined ? { id } : { id, reg: { name } }),
  );
const images = (remaps: Uint8Array[], files: Uint8Array[]): Map<string, Uint8Array> =>
  new Map([
    ["remap-fpath.img", encodeImage("remapFpath", remaps)],
    ["files.img", encodeImage("files", files)],
  ]);

describe("the links that a dump has made", () => {
  it("are none where no file has lost its name", () => {
    expect(madeLinks(new Map())).toEqual([]);
    expect(madeLinks(images([], [named(1, "/tmp/a")]))).toEqual([]);
  });

  it("are neither files in the images nor ended processes", () => {
    const files = [named(1, "/tmp/ghost"), named(2, "/tmp/link_remap.2"), named(3)];
    expect(madeLinks(images([remap(1, 1), remap(9, 2), remap(2, 0)], files))).toEqual(["/tmp/link_remap.2"]);
  });

  it("are also those of which no kind is said", () => {
    expect(madeLinks(images([remap(7)], [named(7, "/link_remap.7")]))).toEqual(["/link_remap.7"]);
  });

  it.each(["/tmp/../link_remap.7", "tmp/link_remap.7", "/tmp/shadow", "/a//link_remap.7", "/./link_remap.7"])(
    "never lead out of the container, or to another file: %s",
    (path) => {
      const failure = expect.objectContaining({ code: "MWARP_E_IMAGE" });
      expect(() => madeLinks(images([remap(7)], [named(7, path)]))).toThrow(failure);
    },
  );

  it("need the list of files", () => {
    const withoutFiles = new Map([["remap-fpath.img", encodeImage("remapFpath", [remap(1)])]]);
    expect(() => madeLinks(withoutFiles)).toThrow(/files\.img is missing/);
  });
});

describe("another name of a link's file", () => {
  const parses = (of: string): boolean => LinksSchema.safeParse([{ link: "/tmp/link_remap.1", of }]).success;

  it("is any path in the container", () => {
    expect(["/a", "/tmp/..a", "/tmp/a b", "/tmp/.../x"].map(parses)).toEqual([true, true, true, true]);
  });

  it("never leads upwards", () => {
    expect(["/tmp/../a", "/..", "/tmp/.", "a", "/", "/a/", "/a\0b"].filter(parses)).toEqual([]);
  });
});
