/** From an image to a root file system and what is to run in it: skopeo checks and copies, umoci unpacks. */
import { mkdir, mkdtemp, readFile, realpath, rm, stat, utimes } from "node:fs/promises";
import path from "node:path";
import type * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import {
  ImageConfigSchema,
  type ImageProcess,
  imageProcess,
  RuntimeConfigSchema,
  requirePlatform,
} from "./config.js";
import { findImage, referenceOf } from "./source.js";
import { runTool } from "./tool.js";

export interface WantedImage {
  readonly file: string;
  readonly tag: string | null;
  /** Replaces the image's Cmd when it is not empty. */
  readonly command: readonly string[];
}

/** On the disk until it is disposed of. */
export interface UnpackedImage extends AsyncDisposable {
  readonly rootfs: string;
  readonly process: ImageProcess;
}

/**
 * Unpacks an image below `scratch`: owners by number, files that a layer takes away gone.
 * @throws MWARP_E_USAGE: no image, none of that name, for another platform, damaged, nothing to run; MWARP_E_CANCELLED
 */
export async function unpackImage(
  { file, tag, command }: WantedImage,
  scratch: string,
  signal: AbortSignal,
): Promise<UnpackedImage> {
  const reference = referenceOf(await findImage(file, signal), tag);
  await mkdir(scratch, { recursive: true });
  const directory = await mkdtemp(path.join(scratch, ".image-"));
  const dispose = (): Promise<void> => rm(directory, { recursive: true, force: true });
  try {
    const layout = path.join(directory, "layout");
    const bundle = path.join(directory, "bundle");
    // Every blob's digest is checked on the way, and of an index the image for this platform is taken.
    await runTool(
      ["skopeo", "--insecure-policy", "copy", "--quiet", reference, `oci:${layout}:image`],
      signal,
    );
    // As it was written: of Docker's own the copy above has lost what the specification does not know, such as a health check.
    const said = await runTool(
      ["skopeo", "--insecure-policy", "inspect", "--config", "--raw", reference],
      signal,
    );
    const config = parse(ImageConfigSchema, said, "the configuration of the image");
    requirePlatform(config);
    await runTool(["umoci", "unpack", "--image", `${layout}:image`, bundle], signal);
    const runtime = parse(
      RuntimeConfigSchema,
      await readFile(path.join(bundle, "config.json"), "utf8"),
      "umoci",
    );
    const rootfs = path.join(bundle, "rootfs");
    // In the writable layer, with what the image has there: it moves with the container.
    for (const volume of Object.keys(config.config.Volumes ?? {})) await makeVolume(rootfs, volume);
    // No layer may name it: with the time of its unpacking each would be another root file system.
    await utimes(rootfs, 0, 0);
    return { rootfs, process: imageProcess(config, runtime, command), [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** A directory that may be there, made so that it is the same each time: the times of what is made, and of what that is made in. */
async function makeVolume(rootfs: string, volume: string): Promise<void> {
  const directory = path.join(rootfs, path.posix.normalize(`/${volume}`));
  const made: string[] = [];
  for (let at = directory; (await stat(at).catch(() => null)) === null; at = path.dirname(at)) made.push(at);
  const top = made.at(-1);
  if (top === undefined) return;
  const parent = path.dirname(top);
  // Behind a link of the image would be a directory of this host.
  if ((await realpath(parent)) !== path.join(await realpath(rootfs), path.relative(rootfs, parent))) return;
  const { atime, mtime } = await stat(parent);
  await mkdir(directory, { recursive: true });
  for (const each of made) await utimes(each, 0, 0);
  await utimes(parent, atime, mtime);
}

function parse<S extends z.ZodMiniType>(schema: S, text: string, what: string): z.infer<S> {
  try {
    return schema.parse(JSON.parse(text)) as z.infer<S>;
  } catch (cause) {
    throw new MwarpError("MWARP_E_USAGE", `${what} is not usable`, { cause });
  }
}
