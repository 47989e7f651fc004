/**
 * The static parent: an image directory that claims to hold every page of any task, with an empty pages file. CRIU
 * dumps against it with soft-dirty cleared, finds each page "in the parent" and writes holes: no page is touched.
 * The bytes are the same for every container, so they are written by hand here and the agent carries no protobuf.
 * Formats: CRIU's images/inventory.proto, images/pagemap.proto and criu/include/magic.h.
 */
const COMMON_MAGIC = 0x54564319;
const INVENTORY_MAGIC = 0x58313116;
const PAGEMAP_MAGIC = 0x56084025;

const PAGE_BYTES = 4096;
/** One page above zero up to the end of user space with four-level page tables; more needs an explicit mmap hint. */
const FIRST_ADDRESS = 0x1000;
const END_ADDRESS = 0x7ffffffff000;
/** Before CRIU 4.2 an entry's count of pages has 32 bits. */
const MAX_ENTRY_PAGES = 0xe0000000;
const FLAG_PRESENT = 4;
const PAGES_ID = 1;
/**
 * CRIU takes a task that started after the parent's dump for one that got a used pid, and then ignores the parent
 * (detect_pid_reuse in criu/mem.c). Microseconds since boot; 2^60 is never in the past.
 */
const DUMP_UPTIME = 1n << 60n;

const varint = (value: number | bigint): number[] => {
  const bytes: number[] = [];
  for (let rest = BigInt(value); ; rest >>= 7n) {
    if (rest < 128n) return [...bytes, Number(rest)];
    bytes.push(Number(rest & 127n) | 128);
  }
};

const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 255);

/** A record of varint fields: [field number, value]. */
const record = (...fields: [number, number | bigint][]): number[] => {
  const body = fields.flatMap(([field, value]) => [...varint(field << 3), ...varint(value)]);
  return [...u32(body.length), ...body];
};

/** The parent's pagemap: belongs beside the files of `staticParentFiles` as `pagemap-PID.img`, PID as seen in the container. */
export function parentPagemap(): Uint8Array {
  const bytes = [...u32(COMMON_MAGIC), ...u32(PAGEMAP_MAGIC), ...record([1, PAGES_ID])];
  for (let address = FIRST_ADDRESS; address < END_ADDRESS; ) {
    const pages = Math.min(MAX_ENTRY_PAGES, (END_ADDRESS - address) / PAGE_BYTES);
    // The count twice: field 2 is read by CRIU 4.1 and required by 4.2, which reads field 5.
    bytes.push(...record([1, address], [2, pages], [4, FLAG_PRESENT], [5, pages]));
    address += pages * PAGE_BYTES;
  }
  return Uint8Array.from(bytes);
}

/** The files of the static parent that do not depend on the tasks. Each task needs its own copy of `parentPagemap` too. */
export function staticParentFiles(): { name: string; bytes: Uint8Array }[] {
  return [
    {
      name: "inventory.img",
      bytes: Uint8Array.from([...u32(INVENTORY_MAGIC), ...record([1, 1], [8, DUMP_UPTIME])]),
    },
    { name: `pages-${PAGES_ID}.img`, bytes: new Uint8Array(0) },
  ];
}
