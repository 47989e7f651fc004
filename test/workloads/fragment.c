/*
 * fragment LEFT_MIB: takes memory in 4 KiB pages until no more than LEFT_MIB of the guest's is free in pieces of 2 MiB, and
 * gives every second page back: half of what it took is free, and nowhere two free pages in a row. What it keeps can be moved
 * by compaction. How much it takes is found out on the way, as a kernel under way to reclaim says little about it beforehand.
 *
 * Output: "fragment ready pages=N", N being the pages that are free again.
 */
#define _GNU_SOURCE
#include "common.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Up to 32 GiB. */
enum { REST_US = 100000, STEP_PAGES = 512, MAX_STEPS = 16384, LINE_BYTES = 512, HUGE_ORDER = 9 };

/* Free pages in blocks of 2 MiB and more: in each zone, how many blocks of 4 KiB there are, of 8 KiB, ... (proc_buddyinfo(5)). */
static size_t free_huge_pages(void)
{
    FILE *file = fopen("/proc/buddyinfo", "r");
    if (!file) die("/proc/buddyinfo");
    size_t pages = 0;
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, file)) {
        char *at = strstr(line, "zone"), *rest = NULL;
        if (!at || !strtok_r(at, " ", &rest) || !strtok_r(NULL, " ", &rest)) die("no zone in /proc/buddyinfo");
        char *count;
        for (int order = 0; (count = strtok_r(NULL, " \n", &rest)); order++)
            if (order >= HUGE_ORDER) pages += (size_t)parse_number("blocks", count, 0, 1L << 40) << order;
    }
    fclose(file);
    return pages;
}

int main(int argc, char **argv)
{
    if (argc != 2) die("usage: fragment LEFT_MIB");
    size_t left = (size_t)parse_number("LEFT_MIB", argv[1], 1, 65536) * (1UL << 20) / PAGE_BYTES;
    workload_init();
    static char *taken[MAX_STEPS];
    size_t steps = 0;
    while (steps < MAX_STEPS && free_huge_pages() > left) taken[steps++] = map_pages(STEP_PAGES, BACKING_SMALL);
    /* Only now, or the next step would have taken just the pages that this one gave back. */
    for (size_t step = 0; step < steps; step++)
        for (size_t i = 0; i < STEP_PAGES; i += 2)
            if (madvise(taken[step] + i * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED)) die("MADV_DONTNEED");
    say("fragment ready pages=%zu", steps * STEP_PAGES / 2);
    for (;;) rest_us(REST_US);
}
