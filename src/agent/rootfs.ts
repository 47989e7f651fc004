/** Read-only layers: unpacked root file systems, each under the digest of its archive. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { MwarpError } from "../errors.js";
import type { AgentParams } from "../protocol/agent.js";
import { exists } from "./files.js";
import type { RequestContext } from "./methods.js";
import { ROOTFS_DIR, rootfsPath } from "./paths.js";
import { lastLines } from "./process.js";

const DIGEST = /^[0-9a-f]{64}$/;

function checkDigest(digest: string): void {
  if (!DIGEST.test(digest)) throw new MwarpError("MWARP_E_PROTOCOL", "a digest has 64 hex digits");
}

export async function rootfsHas(params: AgentParams<"rootfs.has">): Promise<{ present: boolean }> {
  checkDigest(params.digest);
  return { present: await exists(rootfsPath(params.digest)) };
}

/**
 * Unpacks a tar archive of `bytes` bytes under `dir`, giving every piece to `look` on the way.
 * @throws MWARP_E_NO_MEMORY, MWARP_E_RUNTIME with tar's last lines
 */
export async function unpack(
  dir: string,
  bytes: number,
  context: RequestContext,
  look: (data: Uint8Array) => void = () => undefined,
): Promise<void> {
  // By these an overlay knows which file of its lower layer one of the upper was copied from, and which file system that was: neither
  // is here. With nfs_export it would hide what it takes for another directory's (fs/overlayfs/namei.c, ovl_lookup).
  const strange = ["origin", "uuid"].map((name) => `--xattrs-exclude=trusted.overlay.${name}`);
  const flags = ["--xattrs", "--xattrs-include=*", ...strange, "--numeric-owner", "--same-owner"];
  const tar = spawn("tar", ["-C", dir, "-xpf", "-", ...flags], {
    stdio: ["pipe", "ignore", "pipe"],
    env: { ...process.env, LC_ALL: "C", TAR_OPTIONS: "" },
  });
  const errors: Buffer[] = [];
  tar.stderr.on("data", (data: Buffer) => errors.push(data));
  tar.stdin.on("error", () => undefined);
  const ended = new Promise<number | null>((resolve, reject) => {
    tar.on("error", reject);
    tar.on("close", (code) => resolve(code));
  });
  try {
    let left = bytes;
    while (left > 0) {
      const data = await context.up.take(left);
      look(data);
      if (!tar.stdin.write(data)) await Promise.race([once(tar.stdin, "drain"), ended]);
      left -= data.length;
    }
    tar.stdin.end();
  } catch (error) {
    tar.kill("SIGKILL");
    await ended;
    throw error;
  }
  const code = await ended;
  if (code !== 0) throw failureOf(code, Buffer.concat(errors).toString());
}

/** What is unpacked lies in the VM's memory. */
export const NO_ROOM = "this VM has no room for what is unpacked";

function failureOf(code: number | null, words: string): MwarpError {
  const details = lastLines(words);
  return words.includes("No space left on device")
    ? new MwarpError("MWARP_E_NO_MEMORY", NO_ROOM, { details })
    : new MwarpError("MWARP_E_RUNTIME", `tar exited with ${code}`, { details });
}

/** A layer becomes visible whole or not at all; `MWARP_E_PROTOCOL` when the archive has another digest. */
export async function rootfsPut(
  params: AgentParams<"rootfs.put">,
  context: RequestContext,
): Promise<Record<string, never>> {
  checkDigest(params.digest);
  const dir = await mkdtemp(join(ROOTFS_DIR, "incoming-"));
  const tree = join(dir, "tree");
  try {
    await mkdir(tree, { mode: 0o755 });
    const hash = createHash("sha256");
    await unpack(tree, params.bytes, context, (data) => hash.update(data));
    const digest = hash.digest("hex");
    if (digest !== params.digest) {
      throw new MwarpError("MWARP_E_PROTOCOL", `the archive has digest ${digest}, not ${params.digest}`);
    }
    if (!(await exists(rootfsPath(digest)))) await rename(tree, rootfsPath(digest));
    return {};
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
