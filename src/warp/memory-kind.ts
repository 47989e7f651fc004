/** What host memory guest RAM is made of: what remapping, touching and copying cost depends on it. */
import type { MemoryKind } from "../protocol/costs.js";
import { HUGE_BYTES } from "../units.js";
import type { BackedRam } from "./backed-pieces.js";
import { statFile } from "./backends/memory-files.js";

/**
 * The kind of two VMs' RAM together: the smaller one of both. A file that is given huge pages says so by its block size
 * (shmem_getattr in the kernel's mm/shmem.c): no promise for each page of it, but the rule.
 */
export function memoryKind(source: BackedRam, destination: BackedRam): MemoryKind {
  const sides = [source, destination];
  if (sides.every(({ ram }) => ram.hostPageBytes >= HUGE_BYTES)) return "hugetlb";
  const huge = sides.every(({ backing }) =>
    backing.files.every((file) => statFile(file).blksize >= HUGE_BYTES),
  );
  return huge ? "thp" : "4k";
}
