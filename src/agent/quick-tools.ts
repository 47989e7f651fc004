/**
 * Quick stand-ins for programs that runc and CRIU start while the container stands still (native/guest/tools.c), and who stands
 * between runc and CRIU, so that both can be started before it does (native/guest/swrk.c). A warp has them
 * in its PATH; the methods over the network are measured against it and get what is stock.
 */
import { access, constants, mkdir, rename, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { MwarpError } from "../errors.js";
import type { Toolset } from "../protocol/agent.js";
import { exists } from "./files.js";
import { log } from "./log.js";
import { CRIU_KERNEL_CACHE, CRIU_QUICK_CONF, CRIU_VERSION, HELPER, TOOLS_DIR } from "./paths.js";
import { run } from "./process.js";

const STOCK_PATH = process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin";

/** Added to the environment of the programs; null when there are none. */
let quick: Readonly<Record<string, string>> | null = null;

export const haveQuickTools = (): boolean => quick !== null;

/** For a runc that dumps or restores. @throws MWARP_E_RUNTIME for quick tools when there are none: a dump by the other side's could not be restored */
export function toolEnvironment(tools: Toolset, images: string): Readonly<Record<string, string>> {
  if (tools === "stock") return {};
  if (quick === null) throw new MwarpError("MWARP_E_RUNTIME", "this agent has no quick tools any more");
  return { ...quick, MWARP_IMAGES: images };
}

/** At each start of the agent. When it fails there are none, and the host does without on the other side, too. */
export async function prepareQuickTools(): Promise<void> {
  const [criu, tar] = await Promise.all([locate("criu"), locate("tar")]);
  if (criu === null || tar === null) return;
  await mkdir(TOOLS_DIR, { recursive: true });
  for (const name of ["criu", "tar"]) {
    // By its name the program knows what it is. A CRIU that an earlier agent has started must find it at any time.
    const fresh = join(TOOLS_DIR, `${name}.new`);
    await rm(fresh, { force: true });
    await symlink(HELPER, fresh);
    await rename(fresh, join(TOOLS_DIR, name));
  }
  quick = {
    PATH: `${TOOLS_DIR}:${STOCK_PATH}`,
    MWARP_CRIU: criu,
    MWARP_TAR: tar,
    MWARP_CRIU_VERSION: CRIU_VERSION,
    CRIU_CONFIG_FILE: CRIU_QUICK_CONF,
  };
}

/** Keeps what CRIU says of its version. Until it is there, or when it cannot be had, the stand-in asks CRIU itself. */
export async function keepCriuVersion(): Promise<void> {
  if (quick === null) return;
  const asked = await run([HELPER, "criu-version", quick.MWARP_CRIU, CRIU_VERSION]);
  if (asked.code !== 0) log("warn", `CRIU's version is asked for at each start: ${asked.stderr.trim()}`);
}

/**
 * CRIU finds out what the kernel can do at its first start and keeps that for the later ones (criu/kerndat.c). A container that
 * stands still is not to wait for it.
 */
export async function letCriuProbe(): Promise<void> {
  if (await exists(CRIU_KERNEL_CACHE)) return;
  const probed = await run(["criu", "check"]);
  if (probed.code !== 0) log("debug", `criu check: ${probed.stderr.trim()}`);
}

/** Where a program of the guest lies; null when it has none of that name. */
async function locate(name: string): Promise<string | null> {
  for (const directory of STOCK_PATH.split(":")) {
    const file = join(directory, name);
    const executable = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (executable) return file;
  }
  return null;
}
