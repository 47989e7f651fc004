/** Image directories: the static parent that saves the dump its page scan, and the transfer of the files. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { CHUNK_BYTES, type Task } from "../../protocol/agent.js";
import type { ImageFile } from "../../protocol/images.js";
import { parentPagemap, staticParentFiles } from "../../protocol/static-parent.js";
import { link, MemoryFile, regularFiles, remove, stat, writeFile } from "../memory-files.js";
import type { MigrationPaths } from "../paths.js";
import type { DownStream, UpStream } from "../streams.js";

const TEMPLATE = "pagemap.template";

export async function createParent(paths: MigrationPaths): Promise<void> {
  await mkdir(paths.parent, { recursive: true });
  for (const { name, bytes } of staticParentFiles()) await writeFile(join(paths.parent, name), bytes);
  await writeFile(join(paths.parent, TEMPLATE), parentPagemap());
}

/** One name per task, all for the same pagemap. Tasks are known for good only once they are frozen. */
export async function linkParentTasks(paths: MigrationPaths, tasks: readonly Task[]): Promise<void> {
  for (const task of tasks) {
    const name = join(paths.parent, `pagemap-${task.nsPid}.img`);
    await remove(name);
    await link(join(paths.parent, TEMPLATE), name);
  }
}

/** The files CRIU wrote, in the order in which they are sent. The link to the parent is no file of this kind. */
export async function listImages(dir: string): Promise<ImageFile[]> {
  const files: ImageFile[] = [];
  for (const name of (await regularFiles(dir)).sort())
    files.push({ name, bytes: (await stat(join(dir, name))).size });
  return files;
}

/**
 * What may have contents of any size: of shared memory, of tmpfs, of files that were removed while they were open; the few pages of
 * tasks that a warp leaves in them, too.
 */
const BULK = /^(pages|tmpfs|ghost-file)-/;
/** Below it a page of its own for the rest of a file, and the request, are not worth it. */
const LARGE_BYTES = 64 * 1024;

/** Files that need not go through the channel: the host can have their frames exchanged. */
export const isLarge = ({ name, bytes }: ImageFile): boolean => BULK.test(name) && bytes >= LARGE_BYTES;

/** Bytes of page contents among the images of a directory. */
export async function pagesBytes(dir: string): Promise<number> {
  const pages = (await listImages(dir)).filter(({ name }) => /^pages-.*\.img$/.test(name));
  return pages.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Sends exactly the listed bytes; small files share a chunk. */
export async function sendImages(dir: string, files: readonly ImageFile[], down: DownStream): Promise<void> {
  let batch = Buffer.alloc(CHUNK_BYTES);
  let used = 0;
  for (const { name, bytes } of files) {
    using file = new MemoryFile(join(dir, name), "r");
    for (let at = 0; at < bytes; ) {
      const read = file.read(batch.subarray(used, Math.min(used + bytes - at, batch.length)), at);
      if (read === 0) throw new Error(`${name} became shorter`);
      at += read;
      used += read;
      if (used === batch.length) {
        await down.write(batch);
        batch = Buffer.alloc(CHUNK_BYTES);
        used = 0;
      }
    }
  }
  await down.write(batch.subarray(0, used));
}

export async function receiveImages(dir: string, files: readonly ImageFile[], up: UpStream): Promise<void> {
  for (const { name, bytes } of files) {
    using file = new MemoryFile(join(dir, name), "w", 0o600);
    for (let left = bytes; left > 0; ) {
      const data = await up.take(left);
      file.append(data);
      left -= data.length;
    }
  }
}
