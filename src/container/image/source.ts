/** Where an image lies, and in which of the three forms in which people carry images about. */
import { open, readFile, stat } from "node:fs/promises";
import path from "node:path";
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import { runTool } from "./tool.js";

/** skopeo's names (containers-transports(5)): a layout directory, a tar of one, what `docker save` writes. */
export type Transport = "oci" | "oci-archive" | "docker-archive";

export interface ImageSource {
  readonly transport: Transport;
  readonly file: string;
  /** Names of the images in it, as --tag takes them. */
  readonly tags: readonly string[];
}

const TAR_BLOCK_BYTES = 512;
const REF_NAME = "org.opencontainers.image.ref.name";
const IndexSchema = z.looseObject({
  manifests: z.array(z.looseObject({ annotations: z.optional(z.record(z.string(), z.string())) })),
});
const SavedSchema = z.array(z.looseObject({ RepoTags: z.nullish(z.array(z.string())) }));

/** @throws MWARP_E_USAGE when it is none of the three; MWARP_E_CANCELLED */
export async function findImage(file: string, signal: AbortSignal): Promise<ImageSource> {
  const refuse = (problem: string, cause?: unknown): never => {
    throw new MwarpError("MWARP_E_USAGE", `${file} ${problem}`, {
      hint: "--image takes an OCI image layout, a tar of one, or what `docker save` wrote.",
      ...(cause === undefined ? {} : { cause }),
    });
  };
  // skopeo takes it for the end of the path.
  if (file.includes(":")) refuse("has a colon in its path, which no name of an image may have");
  const found = await stat(file).catch((cause: unknown) => refuse("cannot be read", cause));
  const list = async (
    transport: Transport,
    read: (name: string) => Promise<string>,
  ): Promise<ImageSource> => {
    const name = transport === "docker-archive" ? "manifest.json" : "index.json";
    try {
      return { transport, file, tags: tagsOf(transport, JSON.parse(await read(name))) };
    } catch (cause) {
      signal.throwIfAborted();
      return refuse(`has no usable ${name}`, cause);
    }
  };
  if (found.isDirectory()) return list("oci", (name) => readFile(path.join(file, name), "utf8"));
  // tar itself takes a cut in the middle of a header for the end.
  if (found.size % TAR_BLOCK_BYTES !== 0 && (await isPlainTar(file)))
    refuse("is a tar archive that was cut off");
  const names = await runTool(["tar", "--list", "--file", file], signal).catch((cause: unknown) => {
    signal.throwIfAborted();
    return refuse("is not a tar archive", cause);
  });
  const members = new Map(names.split("\n").map((name) => [name.replace(/^\.\//, ""), name]));
  const read = (name: string): Promise<string> =>
    runTool(["tar", "--extract", "--to-stdout", "--file", file, members.get(name) ?? name], signal);
  // Newer ones of Docker are both; its own names of the images are those that people know.
  if (members.has("manifest.json")) return list("docker-archive", read);
  if (members.has("oci-layout")) return list("oci-archive", read);
  return refuse("is a tar archive, but of no image");
}

/** Whether it begins as an archive does that is not compressed (POSIX.1-2017, pax, ustar Interchange Format). */
async function isPlainTar(file: string): Promise<boolean> {
  await using handle = await open(file, "r");
  const { buffer } = await handle.read(Buffer.alloc(5), 0, 5, 257);
  return buffer.toString("latin1") === "ustar";
}

function tagsOf(transport: Transport, index: unknown): string[] {
  if (transport === "docker-archive")
    return SavedSchema.parse(index).flatMap(({ RepoTags }) => RepoTags ?? []);
  return IndexSchema.parse(index).manifests.flatMap(({ annotations }) => annotations?.[REF_NAME] ?? []);
}

/**
 * The image meant, as skopeo names it.
 * @throws MWARP_E_USAGE naming those that there are
 */
export function referenceOf({ transport, file, tags }: ImageSource, tag: string | null): string {
  const plain = `${transport}:${file}`;
  const there = tags.length > 0 ? `it has ${tags.join(", ")}` : "none in it has a name";
  if (tag === null) {
    if (tags.length <= 1) return plain;
    throw new MwarpError("MWARP_E_USAGE", `${file} holds several images: ${there}`, {
      hint: "Name one with --tag.",
    });
  }
  const found = namesOf(transport, tag).find((name) => tags.includes(name));
  if (found !== undefined) return `${plain}:${found}`;
  throw new MwarpError("MWARP_E_USAGE", `${file} has no image "${tag}"; ${there}`, {
    hint: "Name one that is there with --tag.",
  });
}

/** As Docker completes a name, and as others write the same one out. */
function namesOf(transport: Transport, tag: string): string[] {
  if (transport !== "docker-archive") return [tag];
  const name = /:[^/]*$/.test(tag) ? tag : `${tag}:latest`;
  return [name, `docker.io/${name}`, `docker.io/library/${name}`];
}
