/** Mounts that a killed tool left behind: CRIU's and runc's lie under directories that must go. */
import { readFile } from "node:fs/promises";
import type { Helper } from "./helper.js";

/** Mount points at or below `dir`, the last mounted first. */
export function mountsBelow(mountinfo: string, dir: string): string[] {
  return mountinfo
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point === dir || point.startsWith(`${dir}/`))
    .reverse();
}

export async function unmountBelow(dir: string, helper: Helper): Promise<void> {
  for (const point of mountsBelow(await readFile("/proc/self/mountinfo", "utf8"), dir)) {
    await helper.unmount(point);
  }
}
