/*
 * fragment SIZE_MIB: takes memory in 4 KiB pages and gives every second one back, so that the guest has half of it free and
 * nowhere two free pages in a row. What it keeps can be moved by compaction.
 *
 * Output: "fragment ready pages=N", N being the pages that are free again.
 */
#define _GNU_SOURCE
#include "common.h"

#include <sys/mman.h>

enum { REST_US = 100000 };

int main(int argc, char **argv)
{
    if (argc != 2) die("usage: fragment SIZE_MIB");
    size_t pages = (size_t)parse_number("SIZE_MIB", argv[1], 1, 65536) * (1UL << 20) / PAGE_BYTES;
    workload_init();
    char *memory = map_pages(pages, BACKING_SMALL);
    for (size_t i = 0; i < pages; i += 2)
        if (madvise(memory + i * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED)) die("MADV_DONTNEED");
    say("fragment ready pages=%zu", pages / 2);
    for (;;) rest_us(REST_US);
}
