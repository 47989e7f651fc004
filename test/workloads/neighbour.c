/*
 * neighbour SIZE_MIB BACKING: lies beside the container that moves, in both VMs, and never moves itself. Goes
 * over its pages for ever: checks each against its generation, writes the next generation, checks that too. A
 * frame that a migration took from it, or gave it, shows at once; once bad it stays bad.
 *
 * Output: "neighbour ready pages=N at=ADDRESS", "verify BAD ..." at once for each of the first wrong pages,
 * and for each SIGUSR1 "verify ok pages=N sweeps=N" or "verify BAD pages=N sweeps=N".
 */
#include "common.h"

enum { PAGES_PER_REST = 16, PERCENT = 5, MAX_NAMED = 5 };

static size_t bad;

static void check(const uint64_t *page, size_t index, uint64_t generation)
{
    int word = check_page(page, generation);
    if (word >= 0 && ++bad <= MAX_NAMED)
        say("verify BAD page %zu at %p word %d: %016lx in generation %lu", index, (const void *)page, word,
            (unsigned long)page[word], (unsigned long)generation);
}

int main(int argc, char **argv)
{
    if (argc != 3) die("usage: neighbour SIZE_MIB thp|small|scattered");
    size_t pages = (size_t)parse_number("SIZE_MIB", argv[1], 1, 65536) * (1UL << 20) / PAGE_BYTES;
    workload_init();
    uint64_t *memory = map_pages(pages, parse_backing(argv[2]));
    for (size_t i = 0; i < pages; i++) fill_page(memory + i * WORDS_PER_PAGE, 0);
    say("neighbour ready pages=%zu at=%p", pages, (void *)memory);

    for (uint64_t generation = 0;; generation++) {
        for (size_t i = 0; i < pages; i++) {
            uint64_t *page = memory + i * WORDS_PER_PAGE;
            check(page, i, generation);
            fill_page(page, generation + 1);
            check(page, i, generation + 1);
            if (i % PAGES_PER_REST == PAGES_PER_REST - 1) rest_to_share(PERCENT);
            if (!verify_requested()) continue;
            /* The whole memory, on both sides of the sweep, before the answer. */
            for (size_t j = 0; j < pages; j++)
                check(memory + j * WORDS_PER_PAGE, j, j <= i ? generation + 1 : generation);
            if (bad == 0)
                say("verify ok pages=%zu sweeps=%lu", pages, (unsigned long)generation);
            else
                say("verify BAD pages=%zu sweeps=%lu", bad, (unsigned long)generation);
        }
    }
}
