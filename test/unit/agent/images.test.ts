/** Image files on their way out of a guest and into another. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { listImages, receiveImages, sendImages } from "../../../src/agent/migration/images.js";
import { DownStream, UpStream } from "../../../src/agent/streams.js";
import { CHUNK_BYTES } from "../../../src/protocol/agent.js";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "mwarp-images-"));
  for (const side of ["from", "to"]) mkdirSync(path.join(folder, side));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const files: Record<string, Buffer> = {
  "core-1.img": Buffer.from("core"),
  "empty.img": Buffer.alloc(0),
  // More than a chunk, and not whole ones.
  "pages-1.img": Buffer.alloc(CHUNK_BYTES + 77, 7),
  "zz.img": Buffer.from("last"),
};

it("they arrive as they were, in pieces of any size", async () => {
  for (const [name, bytes] of Object.entries(files)) writeFileSync(path.join(folder, "from", name), bytes);
  symlinkSync("../parent", path.join(folder, "from", "parent"));
  mkdirSync(path.join(folder, "from", "directory"));
  const listed = await listImages(path.join(folder, "from"));
  expect(listed.map(({ name, bytes }) => [name, bytes])).toEqual(
    Object.entries(files).map(([name, bytes]) => [name, bytes.length]),
  );

  const sent: Uint8Array[] = [];
  const down = new DownStream(async (_kind, _json, payload) => void sent.push(Uint8Array.from(payload!)));
  await sendImages(path.join(folder, "from"), listed, down);

  const up = new UpStream(async () => undefined);
  const received = receiveImages(path.join(folder, "to"), listed, up);
  for (const data of sent) up.push(data);
  up.end();
  await received;
  expect(readdirSync(path.join(folder, "to")).sort()).toEqual(Object.keys(files));
  for (const [name, bytes] of Object.entries(files))
    expect(readFileSync(path.join(folder, "to", name)).equals(bytes)).toBe(true);
});

it("one that has become shorter since it was listed is an error", async () => {
  writeFileSync(path.join(folder, "from", "core-1.img"), "core");
  const down = new DownStream(async () => undefined);
  const listed = [{ name: "core-1.img", bytes: 5 }];
  await expect(sendImages(path.join(folder, "from"), listed, down)).rejects.toThrow(/became shorter/);
});

it("a host that breaks off leaves no file open for ever, and is told", async () => {
  const up = new UpStream(async () => undefined);
  const listed = [{ name: "core-1.img", bytes: 5 }];
  const received = receiveImages(path.join(folder, "to"), listed, up);
  up.push(Buffer.from("co"));
  up.end();
  await expect(received).rejects.toThrow(/ended early/);
});
