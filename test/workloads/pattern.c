/*
 * pattern SIZE_MIB BACKING [SEED]: every word of every page is filled from its address and a seed, once, and
 * never written again, so that a wrong page cannot be healed by the program. A part of it lies in .bss and on
 * the heap. A counter in a page of its own shows progress.
 *
 * Output: "pattern ready pages=N at=ADDRESS", "pattern counter N" from time to time, and for each SIGUSR1
 * "verify ok pages=N counter=N" or "verify BAD ...".
 */
#define _GNU_SOURCE
#include "common.h"

#include <unistd.h>

enum { STATIC_PAGES = 64, HEAP_PAGES = 64, REST_US = 2000, COUNTS_PER_LINE = 500, MAX_NAMED = 5 };

static uint64_t in_bss[STATIC_PAGES * WORDS_PER_PAGE] __attribute__((aligned(4096)));

struct area {
    const char *name;
    uint64_t *start;
    size_t pages;
};

static uint64_t *heap_pages(size_t pages)
{
    uintptr_t end = (uintptr_t)sbrk(0);
    size_t lead = (PAGE_BYTES - end % PAGE_BYTES) % PAGE_BYTES;
    if (sbrk((intptr_t)(lead + pages * PAGE_BYTES)) == (void *)-1) die("sbrk failed");
    return (uint64_t *)(end + lead);
}

static void verify(const struct area *areas, size_t count, uint64_t seed, uint64_t counter)
{
    size_t bad = 0, pages = 0;
    for (size_t a = 0; a < count; a++) {
        pages += areas[a].pages;
        for (size_t i = 0; i < areas[a].pages; i++) {
            const uint64_t *page = areas[a].start + i * WORDS_PER_PAGE;
            int word = check_page(page, seed);
            if (word >= 0 && ++bad <= MAX_NAMED)
                say("verify BAD %s page %zu at %p word %d: %016lx", areas[a].name, i, (const void *)page,
                    word, (unsigned long)page[word]);
        }
    }
    if (bad == 0)
        say("verify ok pages=%zu counter=%lu", pages, (unsigned long)counter);
    else
        say("verify BAD pages=%zu of %zu counter=%lu", bad, pages, (unsigned long)counter);
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 4) die("usage: pattern SIZE_MIB thp|small|scattered [SEED]");
    size_t pages = (size_t)parse_number("SIZE_MIB", argv[1], 1, 65536) * (1UL << 20) / PAGE_BYTES;
    enum backing backing = parse_backing(argv[2]);
    uint64_t seed = argc == 4 ? (uint64_t)parse_number("SEED", argv[3], 0, 1L << 62) : 1;
    workload_init();

    volatile uint64_t *counter = map_pages(1, BACKING_SMALL);
    struct area areas[] = {{"mapping", map_pages(pages, backing), pages},
                           {"bss", in_bss, STATIC_PAGES},
                           {"heap", heap_pages(HEAP_PAGES), HEAP_PAGES}};
    size_t count = sizeof(areas) / sizeof(areas[0]);
    for (size_t a = 0; a < count; a++)
        for (size_t i = 0; i < areas[a].pages; i++) fill_page(areas[a].start + i * WORDS_PER_PAGE, seed);
    say("pattern ready pages=%zu at=%p", pages + STATIC_PAGES + HEAP_PAGES, (void *)areas[0].start);

    for (;;) {
        if (++*counter % COUNTS_PER_LINE == 0) say("pattern counter %lu", (unsigned long)*counter);
        if (verify_requested()) verify(areas, count, seed, *counter);
        rest_us(REST_US);
    }
}
