/**
 * The source's part in moving a container's own files: writable layer, named volumes, log. Most of them are packed while it runs; once
 * it stands still, only what has changed since. What is needed for that is started ahead, as it would be paid for by a container that stands
 * still.
 */
import { join } from "node:path";
import { toMwarpError } from "../../errors.js";
import type { AgentParams, AgentResult } from "../../protocol/agent.js";
import type { ContainerSpec } from "../../protocol/container.js";
import type { LayerParts } from "../../protocol/layer.js";
import { movingFiles } from "../containers/moving.js";
import { filesOf } from "../containers/volumes.js";
import { exists } from "../files.js";
import { log, timed } from "../log.js";
import { MemoryFile } from "../memory-files.js";
import type { RequestContext } from "../methods.js";
import { containerPaths, HELPER } from "../paths.js";
import { mustRun } from "../process.js";
import { type DownStream, takeAll } from "../streams.js";
import { LayerArchive } from "./layer-archive.js";
import { LayerWatch, type WatchedFiles } from "./layer-watch.js";

/**
 * Fewer files than these are packed once. What a second pass costs a container that stands still is the look at what its tasks have open
 * and mapped, a few milliseconds: an archive of these takes no longer. The rest is the same for both: every file is looked at.
 */
const FEW_FILES = 64;
const FEW_BYTES = 128 * 1024;
const READ_BYTES = 256 * 1024;

/** What waits for one migration. */
class Layer {
  readonly #name: string;
  readonly #files: WatchedFiles;
  #watch: LayerWatch;
  #archive: LayerArchive;
  /** How far an earlier pass came in the log. */
  #logged = 0;

  constructor(spec: ContainerSpec) {
    const { dir, cgroup, merged } = containerPaths(spec.name);
    this.#name = spec.name;
    this.#files = { dir, cgroup, root: merged, trees: filesOf(spec) };
    this.#watch = new LayerWatch(this.#files);
    this.#archive = new LayerArchive(dir, "still");
  }

  /** Null: there is no use in it, for that reason. */
  async sendFirst({ down, signal }: RequestContext): Promise<LayerParts | string> {
    const found = await this.#watch.remember(signal).catch((error: unknown) => {
      signal.throwIfAborted();
      return toMwarpError(error).message;
    });
    if (typeof found === "string") return found;
    if (found.files < FEW_FILES && found.bytes < FEW_BYTES) return "there are few of them";
    const names = Buffer.from(this.#files.trees.map((tree) => `${tree}\0`).join(""));
    const archive = await counted(down, () => new LayerArchive(this.#files.dir, "live").send(names, down));
    const log = await this.#sendLog(down, true);
    const large = await this.#watch.passed(signal);
    await down.write(large);
    return { changes: 0, blocks: 0, archive, ...log, large: large.length };
  }

  /** After a first pass. What makes no sense costs no more than what it would have saved. */
  async know(digests: Uint8Array, signal: AbortSignal): Promise<void> {
    try {
      await this.#watch.know(digests, signal);
    } catch (error) {
      signal.throwIfAborted();
      log("warn", `large files are sent as a whole: ${toMwarpError(error).message}`);
    }
  }

  async sendLast(whole: boolean, { down, signal }: RequestContext): Promise<LayerParts> {
    const begun = this.#watch.waits;
    // One that ended, by what chance ever, knows nothing of the first pass.
    if (!begun) this.#watch = new LayerWatch(this.#files);
    const told = await timed("changed files", () => this.#watch.changes(whole || !begun, signal));
    await down.write(told.changes);
    for await (const data of this.#watch.blocks(told.blocksBytes, signal)) await down.write(data);
    if (!this.#archive.waits) this.#archive = new LayerArchive(this.#files.dir, "still");
    const beside = (await movingFiles(this.#name)).map((name) => `${name}\0`).join("");
    const names = Buffer.concat([told.names, Buffer.from(beside)]);
    // Without a name it would refuse to make an archive.
    const archive = names.length === 0 ? 0 : await counted(down, () => this.#archive.send(names, down));
    const log = await this.#sendLog(down, told.whole);
    return { changes: told.changes.length, blocks: told.blocksBytes, archive, ...log, large: 0 };
  }

  async #sendLog(down: DownStream, begin: boolean): Promise<{ log: number; logBegins: boolean }> {
    const path = join(this.#files.dir, "log");
    const from = begin ? 0 : this.#logged;
    this.#logged = from;
    if (await exists(path)) {
      using file = new MemoryFile(path, "r");
      const buffer = Buffer.alloc(READ_BYTES);
      for (let bytes = file.read(buffer, from); bytes > 0; bytes = file.read(buffer, this.#logged)) {
        await down.write(Buffer.from(buffer.subarray(0, bytes)));
        this.#logged += bytes;
      }
    }
    return { log: this.#logged - from, logBegins: begin };
  }

  async end(): Promise<void> {
    await Promise.all([this.#watch.end(), this.#archive.end()]);
  }
}

/** Bytes of a container's own files, and what of them cannot be moved. */
export async function lookAtFiles(spec: ContainerSpec): Promise<{ bytes: number; unsupported: string[] }> {
  const { dir } = containerPaths(spec.name);
  const lines = (await mustRun([HELPER, "layer-look", dir, ...filesOf(spec)])).trimEnd().split("\n");
  const [bytes] = (lines.pop() ?? "").split(" ");
  // As the container sees it.
  const named = lines.map((line) => `file ${line.replace(/^upper(?=\/)/, "")}`);
  return { bytes: Number(bytes), unsupported: named };
}

async function counted(down: DownStream, send: () => Promise<void>): Promise<number> {
  const before = down.sentBytes;
  await send();
  return down.sentBytes - before;
}

/** By migration. */
const layers = new Map<string, Layer>();

/** Has all wait that a migration needs for it. */
export async function startLayer(migration: string, spec: ContainerSpec): Promise<void> {
  await endLayer(migration);
  layers.set(migration, new Layer(spec));
}

/** The migration is over, or has what it needs. */
export async function endLayer(migration: string): Promise<void> {
  const layer = layers.get(migration);
  layers.delete(migration);
  await layer?.end();
}

/** An agent that began anew in the middle of a migration starts again what waited. */
export async function sendLayer(
  { migration, pass }: AgentParams<"source.layer">,
  spec: ContainerSpec,
  context: RequestContext,
): Promise<AgentResult<"source.layer">> {
  if (!layers.has(migration)) layers.set(migration, new Layer(spec));
  const layer = layers.get(migration) as Layer;
  if (pass === "first") {
    const parts = await timed("first pass", () => layer.sendFirst(context));
    if (typeof parts !== "string") return { parts, reason: null };
    log("info", `${migration}: no first pass of the files: ${parts}`);
    return { parts: null, reason: parts };
  }
  const parts = await layer.sendLast(pass === "whole", context);
  void endLayer(migration);
  return { parts, reason: null };
}

/** See the protocol. An agent that began anew since the first pass knows nothing of it, and needs to know nothing of this. */
export async function knowLarge(
  { migration, bytes }: AgentParams<"source.known">,
  { up, signal }: RequestContext,
): Promise<AgentResult<"source.known">> {
  const digests = await takeAll(up, bytes);
  await layers.get(migration)?.know(digests, signal);
  return {};
}
