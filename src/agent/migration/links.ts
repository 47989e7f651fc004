/**
 * Hard links that CRIU makes while it dumps, for open files whose name was removed but which have another. The writable layer was
 * packed before that, so the destination makes them anew, from the other name.
 */
import { link, lstat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { MwarpError } from "../../errors.js";
import type { AgentParams, AgentResult } from "../../protocol/agent.js";
import { containerPaths } from "../paths.js";
import { mustRun } from "../process.js";
import { destinationRecord, sourceRecord } from "./record.js";

/** A name other than CRIU's for each of the links that lie in the writable layer; one in a tmpfs travels with that. */
export async function sourceLinks({
  migration,
  links,
}: AgentParams<"source.links">): Promise<AgentResult<"source.links">> {
  const { name } = await sourceRecord(migration, "dumped");
  const { upper } = containerPaths(name);
  const found: AgentResult<"source.links">["links"] = [];
  for (const path of links) {
    const file = join(upper, path);
    if ((await lstat(file).catch(() => null)) === null) continue;
    // Every name of a file with several is in the upper layer: the kernel has copied the file there to make the link.
    const names = await mustRun(["find", upper, "-xdev", "-samefile", file, "-print0"]);
    const other = names.split("\0").find((one) => one !== "" && !/\/link_remap\.\d+$/.test(one));
    if (other === undefined)
      throw new MwarpError(
        "MWARP_E_DUMP",
        `${path}, which CRIU has made, is a link to a file without another name`,
      );
    found.push({ link: path, of: other.slice(upper.length) });
  }
  return { links: found };
}

/** Before the restore: nothing runs in the container yet, so what is a directory stays one. */
export async function destinationLinks({
  migration,
  links,
}: AgentParams<"destination.links">): Promise<Record<string, never>> {
  const { name } = await destinationRecord(migration, "prepared");
  const { merged } = containerPaths(name);
  for (const { link: path, of } of links) {
    for (const one of [path, of]) await mustHaveNoSymlinks(merged, dirname(one));
    await link(join(merged, of), join(merged, path));
  }
  return {};
}

/** The other guest has named these: no symbolic link may lead out of the container's root. */
async function mustHaveNoSymlinks(root: string, directory: string): Promise<void> {
  for (let path = directory; path !== "/"; path = dirname(path)) {
    if ((await lstat(join(root, path))).isDirectory()) continue;
    throw new MwarpError("MWARP_E_PROTOCOL", `${path} is no directory of the container`);
  }
}
