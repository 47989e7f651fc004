/*
 * huge SIZE_MIB [disabled]: memory of each kind that a kernel backs with huge pages, and of some that it does not, SIZE_MIB each:
 *
 *   wanted     on a 2 MiB border, MADV_HUGEPAGE
 *   crooked    begins and ends in the middle of 2 MiB, no advice
 *   holed      MADV_HUGEPAGE; of every fourth huge page some 4 KiB pages were given back afterwards
 *   refused    MADV_NOHUGEPAGE
 *   stack      of a thread that has used it and runs on
 *
 * With "disabled" the process asks for no huge pages at all (PR_SET_THP_DISABLE) before it touches any.
 * Every page is filled from its address; what was given back must read as zero. Output: "huge ready pages=N", and for each
 * SIGUSR1 "verify ok pages=N" or "verify BAD ...".
 */
#define _GNU_SOURCE
#include "common.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define HUGE_BYTES     (2UL << 20)
#define PAGES_PER_HUGE (HUGE_BYTES / PAGE_BYTES)

enum { SEED = 11, REST_US = 2000, MAX_NAMED = 5, HOLE_FIRST = 3, HOLE_PAGES = 5, HOLED_EVERY = 4 };

struct area {
    const char *name;
    char *start;
    size_t pages;
    bool holed;
};

static volatile uint64_t thread_turns;
static struct area stack = {.name = "stack"};

static bool in_hole(const struct area *area, size_t page)
{
    size_t in_block = page % PAGES_PER_HUGE;

    return area->holed && page / PAGES_PER_HUGE % HOLED_EVERY == 0 && in_block >= HOLE_FIRST &&
           in_block < HOLE_FIRST + HOLE_PAGES;
}

static uint64_t *page_of(const struct area *area, size_t page)
{
    return (uint64_t *)(area->start + page * PAGE_BYTES);
}

static void fill(const struct area *area)
{
    for (size_t i = 0; i < area->pages; i++) fill_page(page_of(area, i), SEED);
    if (!area->holed) return;
    for (size_t i = 0; i < area->pages; i++)
        if (in_hole(area, i) && madvise(page_of(area, i), PAGE_BYTES, MADV_DONTNEED)) die("MADV_DONTNEED");
}

/* `lead` bytes after a 2 MiB border. */
static char *reserve(size_t bytes, size_t lead)
{
    char *raw = mmap(NULL, bytes + 2 * HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (raw == MAP_FAILED) die("mmap of %zu bytes", bytes);
    char *start = (char *)(((uintptr_t)raw + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1)) + lead;
    if (mprotect(start, bytes, PROT_READ | PROT_WRITE)) die("mprotect");
    return start;
}

static struct area make(const char *name, size_t bytes, size_t lead, int advice)
{
    struct area area = {.name = name, .start = reserve(bytes, lead), .pages = bytes / PAGE_BYTES};

    /* A kernel that has no huge pages refuses advice on them. */
    if (advice != 0) (void)madvise(area.start, bytes, advice);
    return area;
}

/* Fills the lower part of its own stack, far below where it goes on working. */
static void *run_thread(void *unused)
{
    char local;
    uintptr_t top = ((uintptr_t)&local - HUGE_BYTES) & ~(PAGE_BYTES - 1);

    (void)unused;
    stack.start = (char *)(top - stack.pages * PAGE_BYTES);
    fill(&stack);
    for (;;) {
        thread_turns++;
        rest_us(REST_US);
    }
    return NULL;
}

static void start_thread(size_t bytes)
{
    pthread_attr_t attributes;
    pthread_t thread;

    stack.pages = bytes / PAGE_BYTES;
    if (pthread_attr_init(&attributes) || pthread_attr_setstacksize(&attributes, bytes + 4 * HUGE_BYTES) ||
        pthread_create(&thread, &attributes, run_thread, NULL))
        die("pthread_create");
    while (thread_turns == 0) rest_us(REST_US);
}

static size_t wrong_pages(const struct area *area)
{
    static const uint64_t zero[WORDS_PER_PAGE];
    size_t bad = 0;

    for (size_t i = 0; i < area->pages; i++) {
        const uint64_t *page = page_of(area, i);
        bool right =
            in_hole(area, i) ? memcmp(page, zero, PAGE_BYTES) == 0 : check_page(page, SEED) < 0;

        if (!right && ++bad <= MAX_NAMED) say("verify BAD %s page %zu at %p", area->name, i, (const void *)page);
    }
    return bad;
}

int main(int argc, char **argv)
{
    if (argc != 2 && (argc != 3 || strcmp(argv[2], "disabled") != 0)) die("usage: huge SIZE_MIB [disabled]");
    size_t bytes = (size_t)parse_number("SIZE_MIB", argv[1], 4, 16384) << 20;
    workload_init();
    if (argc == 3 && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)) die("PR_SET_THP_DISABLE");
    struct area areas[] = {make("wanted", bytes, 0, MADV_HUGEPAGE),
                           make("crooked", bytes, HUGE_BYTES / 2 + PAGE_BYTES, 0),
                           make("holed", bytes, 0, MADV_HUGEPAGE), make("refused", bytes, 0, MADV_NOHUGEPAGE)};
    enum { AREAS = sizeof(areas) / sizeof(areas[0]) };
    size_t pages = 0;
    areas[2].holed = true;
    for (size_t a = 0; a < AREAS; a++) fill(&areas[a]);
    for (size_t a = 0; a < AREAS; a++) pages += areas[a].pages;
    start_thread(bytes);
    pages += stack.pages;
    say("huge ready pages=%zu", pages);

    for (;; rest_us(REST_US)) {
        if (!verify_requested()) continue;
        uint64_t before = thread_turns;
        size_t bad = wrong_pages(&stack);
        for (size_t a = 0; a < AREAS; a++) bad += wrong_pages(&areas[a]);
        for (int i = 0; i < 500 && thread_turns == before; i++) rest_us(REST_US);
        if (thread_turns == before)
            say("verify BAD: the thread stands still");
        else if (bad == 0) say("verify ok pages=%zu", pages);
        else say("verify BAD pages=%zu of %zu", bad, pages);
    }
}
