/*
 * edge SIZE_MIB BACKING: the edge pattern of QEMU's migration test. One byte per page is incremented in
 * ascending order, for ever, so that at any instant all pages hold the same value but for one edge. A page
 * that is lost, stale or comes twice breaks that. Beyond QEMU's: the last byte of the page is kept equal to
 * the first (torn pages), and each page holds its own number (pages put in the wrong place). "collapsible"
 * pages are taken apart after each round, so that khugepaged puts them together again and again.
 *
 * Output: "edge ready pages=N at=ADDRESS", then "edge iteration N" from time to time, and for each SIGUSR1
 * "verify ok pages=N iteration=N" or "verify BAD ...".
 */
#include "common.h"

enum {
    FIRST = 0,
    LAST = PAGE_BYTES - 1,
    PAGES_PER_REST = 1024,
    PERCENT = 25,
    ITERATIONS_PER_LINE = 64,
    MAX_NAMED = 5
};

static uint64_t *number_of(uint8_t *page)
{
    return (uint64_t *)(page + 64);
}

/* Pages below `edge` must hold `value`, the others the value before it. */
static void verify(uint8_t *memory, size_t pages, size_t edge, uint64_t iteration)
{
    size_t bad = 0;
    for (size_t i = 0; i < pages; i++) {
        uint8_t *page = memory + i * PAGE_BYTES;
        uint8_t want = (uint8_t)(i < edge ? iteration : iteration - 1);
        if (page[FIRST] == want && page[LAST] == want && *number_of(page) == i) continue;
        if (++bad <= MAX_NAMED)
            say("verify BAD page %zu at %p: first %u last %u number %lu, wanted %u (edge at %zu)", i,
                (void *)page, page[FIRST], page[LAST], (unsigned long)*number_of(page), want, edge);
    }
    if (bad == 0)
        say("verify ok pages=%zu iteration=%lu", pages, (unsigned long)iteration);
    else
        say("verify BAD pages=%zu of %zu iteration=%lu", bad, pages, (unsigned long)iteration);
}

int main(int argc, char **argv)
{
    if (argc != 3) die("usage: edge SIZE_MIB thp|small|scattered|collapsible");
    size_t pages = (size_t)parse_number("SIZE_MIB", argv[1], 1, 65536) * (1UL << 20) / PAGE_BYTES;
    workload_init();
    enum backing backing = parse_backing(argv[2]);
    uint8_t *memory = map_pages(pages, backing);
    for (size_t i = 0; i < pages; i++) *number_of(memory + i * PAGE_BYTES) = i;
    say("edge ready pages=%zu at=%p", pages, (void *)memory);

    for (uint64_t iteration = 1;; iteration++) {
        for (size_t i = 0; i < pages; i++) {
            volatile uint8_t *page = memory + i * PAGE_BYTES;
            page[FIRST] = (uint8_t)iteration;
            page[LAST] = (uint8_t)iteration;
            if (verify_requested()) verify(memory, pages, i + 1, iteration);
            if (i % PAGES_PER_REST == PAGES_PER_REST - 1) rest_to_share(PERCENT);
        }
        if (backing == BACKING_COLLAPSE) split_huge_pages(memory, pages);
        if (iteration % ITERATIONS_PER_LINE == 0) say("edge iteration %lu", (unsigned long)iteration);
    }
}
