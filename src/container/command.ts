/** Finds a command inside a root file system, as the container's runtime will: links are resolved within that root. */
import { lstat, readlink } from "node:fs/promises";
import path from "node:path";
import { MwarpError } from "../errors.js";
import { DEFAULT_PATH } from "./oci.js";

/** As the kernel (MAXSYMLINKS). */
const MAX_LINKS = 40;

/**
 * The path inside the root of the program that `argv0` names.
 * @param env the container's environment; its PATH is searched when `argv0` has no slash.
 * @throws MWARP_E_USAGE when there is none or it cannot be executed.
 */
export async function requireCommand(
  rootfs: string,
  argv0: string,
  { env, cwd }: { readonly env: readonly string[]; readonly cwd: string },
): Promise<string> {
  const searched = env.findLast((entry) => entry.startsWith("PATH="))?.slice("PATH=".length) || DEFAULT_PATH;
  const candidates = argv0.includes("/")
    ? [path.posix.resolve(cwd, argv0)]
    : searched.split(":").map((directory) => path.posix.resolve(cwd, directory, argv0));
  for (const candidate of argv0 === "" ? [] : candidates) {
    if (await isExecutable(rootfs, candidate)) return candidate;
  }
  const where = argv0.includes("/") ? "" : ` in its PATH (${searched})`;
  throw new MwarpError("MWARP_E_USAGE", `the root file system has no program "${argv0}"${where}`, {
    hint: `Check the command and the directory: ${rootfs}.`,
  });
}

async function isExecutable(rootfs: string, inside: string): Promise<boolean> {
  const real = await resolveInside(rootfs, inside);
  if (real === null) return false;
  const found = await lstat(path.join(rootfs, real));
  return found.isFile() && (found.mode & 0o111) !== 0;
}

/** `inside` without links, or null when it does not exist. `..` and absolute links stop at the root, as after chroot. */
async function resolveInside(rootfs: string, inside: string): Promise<string | null> {
  const rest = inside.split("/").filter((part) => part !== "");
  let at = "/";
  let links = 0;
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    const next = path.posix.join(at, part);
    const found = await lstat(path.join(rootfs, next)).catch(missing);
    if (found === null) return null;
    if (!found.isSymbolicLink()) {
      at = next;
      continue;
    }
    if (++links > MAX_LINKS) return null;
    const target = await readlink(path.join(rootfs, next));
    if (target.startsWith("/")) at = "/";
    rest.unshift(...target.split("/").filter((piece) => piece !== "" && piece !== "."));
  }
  return at;
}

function missing(error: NodeJS.ErrnoException): null {
  if (["ENOENT", "ENOTDIR", "EACCES", "ELOOP", "ENAMETOOLONG"].includes(error.code ?? "")) return null;
  throw error;
}
