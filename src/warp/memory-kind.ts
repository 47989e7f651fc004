/** What host memory guest RAM is made of: what remapping, touching and copying cost depends on it. */
import type { MemoryKind } from "../protocol/costs.js";
import { HUGE_BYTES } from "../units.js";
import type { RamMap } from "./ram-map.js";

/** Of two VMs' RAM together: the lesser kind of both. */
export function memoryKind(
  ...sides: readonly Pick<RamMap, "hostPageBytes" | "transparentHuge">[]
): MemoryKind {
  const reserved = sides.map(({ hostPageBytes }) => hostPageBytes >= HUGE_BYTES);
  if (!reserved.includes(false)) return "hugetlb";
  return sides.every(({ transparentHuge }, side) => reserved[side] || transparentHuge) ? "thp" : "4k";
}
