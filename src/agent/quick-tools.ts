/**
 * Quick stand-ins for programs that runc and CRIU start while the container stands still (native/guest/tools.c). A warp has them
 * in its PATH; the methods over the network are measured against it and get what is stock.
 */
import { copyFile, mkdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { log } from "./log.js";
import { CRIU_VERSION, HELPER, TOOLS_DIR } from "./paths.js";
import { run } from "./process.js";

/** What runc and CRIU find in their PATH. */
export type Toolset = "quick" | "stock";

const STOCK_PATH = process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin";

/** Added to the environment of the programs. Empty where a stock program is missing: then nothing stands before the others. */
let quick: Readonly<Record<string, string>> = {};

export const toolEnvironment = (tools: Toolset): Readonly<Record<string, string>> =>
  tools === "quick" ? quick : {};

/** At each start of the agent. Whatever fails leaves the stock programs in place. */
export async function prepareQuickTools(): Promise<void> {
  quick = {};
  const [criu, tar] = await Promise.all([locate("criu"), locate("tar")]);
  if (criu === null || tar === null) return;
  await rm(TOOLS_DIR, { recursive: true, force: true });
  await mkdir(TOOLS_DIR);
  for (const name of ["criu", "tar"]) {
    const place = join(TOOLS_DIR, name);
    // By its name the program knows what it is.
    await symlink(HELPER, place).catch(() => copyFile(HELPER, place));
  }
  // Without it the stand-in asks CRIU itself.
  const asked = await run([HELPER, "criu-version", criu, CRIU_VERSION]);
  if (asked.code !== 0) log("warn", `CRIU's version is asked for at each start: ${asked.stderr.trim()}`);
  quick = {
    PATH: `${TOOLS_DIR}:${STOCK_PATH}`,
    MWARP_CRIU: criu,
    MWARP_TAR: tar,
    MWARP_CRIU_VERSION: CRIU_VERSION,
  };
}

/** Where a program of the guest lies; null when it has none of that name. */
async function locate(name: string): Promise<string | null> {
  const { code, stdout } = await run(["sh", "-c", 'command -v "$0"', name]);
  return code === 0 ? stdout.trim() : null;
}
