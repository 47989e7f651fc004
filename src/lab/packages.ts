/** The Debian packages of the host that the lab needs. */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { MwarpError } from "../errors.js";
import { run } from "./exec.js";
import type { LabCallOptions } from "./progress.js";

/** Package -> the programs (or files, with a slash) that show it is there. */
const needed: Readonly<Record<string, readonly string[]>> = {
  "qemu-system-x86": ["qemu-system-x86_64"],
  mmdebstrap: ["mmdebstrap"],
  "debian-archive-keyring": ["/usr/share/keyrings/debian-archive-keyring.gpg"],
  e2fsprogs: ["mke2fs"],
  iproute2: ["ip"],
  "util-linux": ["nsenter", "unshare", "setpriv"],
  "xz-utils": ["xz"],
};

const directories = [
  ...(process.env.PATH ?? "").split(":").filter((directory) => directory !== ""),
  "/usr/sbin",
  "/sbin",
];

function isPresent(file: string): boolean {
  const candidates = file.startsWith("/") ? [file] : directories.map((directory) => join(directory, file));
  return candidates.some((candidate) => {
    try {
      accessSync(candidate, constants.R_OK);
      return true;
    } catch {
      return false; // not here
    }
  });
}

/** Packages of which a program is missing, sorted. */
export function missingPackages(): string[] {
  return Object.entries(needed)
    .filter(([, files]) => !files.every(isPresent))
    .map(([name]) => name)
    .sort();
}

/**
 * Installs what is missing. Returns what was installed.
 * @throws MWARP_E_LAB naming the command to run when it cannot be done here.
 */
export async function ensurePackages(options: LabCallOptions = {}): Promise<string[]> {
  const missing = missingPackages();
  if (missing.length === 0) return [];
  const command = `apt-get install --no-install-recommends ${missing.join(" ")}`;
  if (process.getuid?.() !== 0 || !isPresent("apt-get")) {
    throw new MwarpError("MWARP_E_LAB", `these packages are missing: ${missing.join(", ")}`, {
      hint: `Install them as root: ${command}`,
    });
  }
  options.onProgress?.({ step: "packages", message: `installing Debian packages: ${missing.join(", ")}` });
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const limits = { signal: options.signal, timeoutMs: 600_000, env };
  await run(["apt-get", "-q", "update"], limits);
  await run(["apt-get", "-q", "install", "-y", "--no-install-recommends", ...missing], limits);
  const still = missingPackages();
  if (still.length > 0)
    throw new MwarpError("MWARP_E_LAB", `still missing after apt-get: ${still.join(", ")}`, {
      hint: command,
    });
  return missing;
}
