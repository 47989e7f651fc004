/** Writes a cpio archive in the "newc" format, the one the kernel unpacks as initramfs (Documentation/driver-api/early-userspace/buffer-format.rst). */

const DIRECTORY = 0o040000;
const REGULAR = 0o100000;
const SYMLINK = 0o120000;
const TRAILER = "TRAILER!!!";

const padding = (bytes: number): number => (4 - (bytes % 4)) % 4;

export class CpioArchive {
  readonly #parts: Buffer[] = [];
  readonly #directories = new Set<string>();
  #nextInode = 1;

  /** Adds a regular file, and the directories above it. */
  file(path: string, contents: Buffer | string, mode = 0o644): this {
    this.#parents(path);
    return this.#add(path, REGULAR | mode, Buffer.from(contents));
  }

  directory(path: string, mode = 0o755): this {
    if (this.#directories.has(path)) return this;
    this.#parents(path);
    this.#directories.add(path);
    return this.#add(path, DIRECTORY | mode, Buffer.alloc(0));
  }

  symlink(path: string, target: string): this {
    this.#parents(path);
    return this.#add(path, SYMLINK | 0o777, Buffer.from(target));
  }

  /** The finished archive. */
  toBuffer(): Buffer {
    return Buffer.concat([...this.#parts, entry(TRAILER, 0, 0, Buffer.alloc(0))]);
  }

  #parents(path: string): void {
    const slash = path.lastIndexOf("/");
    if (slash > 0) this.directory(path.slice(0, slash));
  }

  #add(path: string, mode: number, contents: Buffer): this {
    this.#parts.push(entry(path, mode, this.#nextInode++, contents));
    return this;
  }
}

function entry(path: string, mode: number, inode: number, contents: Buffer): Buffer {
  const name = Buffer.from(`${path}\0`);
  const links = (mode & DIRECTORY) === DIRECTORY && mode < REGULAR ? 2 : 1;
  // inode mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, links, 0, contents.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  const afterName = Buffer.alloc(padding(header.length + name.length));
  return Buffer.concat([
    Buffer.from(header),
    name,
    afterName,
    contents,
    Buffer.alloc(padding(contents.length)),
  ]);
}
