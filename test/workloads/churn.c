/*
 * churn SIZE_MIB: memory that changes its shape once, at SIGUSR2, so that what was known of it before is wrong afterwards:
 *
 *   grows    becomes twice as large, half of that before its start
 *   shrinks  its first half is given back (MADV_DONTNEED) and reads as zero from then on
 *   goes     is unmapped, and another one mapped elsewhere
 *   splits   its middle can only be read from then on
 *   heap     as large again
 *
 * Output: "churn ready pages=N", "churn changed", and for each SIGUSR1 "verify ok pages=N" or "verify BAD ...".
 */
#define _GNU_SOURCE
#include "common.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

enum { REST_US = 20000, MAX_NAMED = 5, SEED = 9 };

struct part {
    const char *name;
    char *at;
    size_t pages;
    /* Reads as zero; else as fill_page left it. */
    bool zero;
};

static volatile sig_atomic_t asked;

static void ask(int signal)
{
    (void)signal;
    asked = 1;
}

static void fill(char *at, size_t pages)
{
    for (size_t i = 0; i < pages; i++) fill_page((uint64_t *)(void *)(at + i * PAGE_BYTES), SEED);
}

/* In the middle of a place that is kept free, as far from a huge page's start as from its end. */
static char *map_with_room(size_t pages)
{
    size_t bytes = pages * PAGE_BYTES;
    char *at = mmap(NULL, 3 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED || mprotect(at + bytes, bytes, PROT_READ | PROT_WRITE)) die("mmap");
    fill(at + bytes, pages);
    return at + bytes;
}

static size_t verify_part(const struct part *part)
{
    size_t bad = 0;

    for (size_t i = 0; i < part->pages; i++) {
        const uint64_t *page = (const uint64_t *)(const void *)(part->at + i * PAGE_BYTES);
        bool right = true;

        for (size_t word = 0; part->zero && word < WORDS_PER_PAGE; word++) right &= page[word] == 0;
        if (!part->zero) right = check_page(page, SEED) < 0;
        if (!right && ++bad <= MAX_NAMED) say("verify BAD %s page %zu", part->name, i);
    }
    return bad;
}

static void verify(const struct part *parts, size_t count)
{
    size_t bad = 0, pages = 0;

    for (size_t i = 0; i < count; i++) {
        bad += verify_part(&parts[i]);
        pages += parts[i].pages;
    }
    if (bad == 0)
        say("verify ok pages=%zu", pages);
    else
        say("verify BAD pages=%zu of %zu", bad, pages);
}

/* The part that is given back becomes one of its own, the last. */
static size_t change(struct part *parts, size_t count, size_t pages)
{
    size_t half = pages / 2, bytes = pages * PAGE_BYTES;

    if (mprotect(parts[0].at - bytes / 2, 2 * bytes, PROT_READ | PROT_WRITE)) die("mprotect");
    fill(parts[0].at - bytes / 2, half);
    fill(parts[0].at + bytes, half);
    parts[0].at -= bytes / 2;
    parts[0].pages = 2 * pages;

    if (madvise(parts[1].at, bytes / 2, MADV_DONTNEED)) die("madvise");
    parts[count] = (struct part){"given back", parts[1].at, half, true};
    parts[1].at += bytes / 2;
    parts[1].pages = pages - half;

    munmap(parts[2].at, bytes);
    parts[2].at = map_with_room(pages);

    if (mprotect(parts[3].at + bytes / 4, bytes / 4, PROT_READ)) die("mprotect");

    if (sbrk((intptr_t)bytes) == (void *)-1) die("sbrk");
    fill(parts[4].at + bytes, pages);
    parts[4].pages = 2 * pages;
    return count + 1;
}

int main(int argc, char **argv)
{
    enum { PARTS = 5 };
    struct part parts[PARTS + 1];
    size_t count = PARTS, pages;
    uintptr_t lead;

    if (argc != 2) die("usage: churn SIZE_MIB");
    pages = (size_t)parse_number("SIZE_MIB", argv[1], 4, 65536) * (1UL << 20) / PAGE_BYTES;
    workload_init();
    signal(SIGUSR2, ask);
    parts[0] = (struct part){"grows", map_with_room(pages), pages, false};
    parts[1] = (struct part){"shrinks", map_with_room(pages), pages, false};
    parts[2] = (struct part){"goes", map_with_room(pages), pages, false};
    parts[3] = (struct part){"splits", map_with_room(pages), pages, false};
    lead = (PAGE_BYTES - (uintptr_t)sbrk(0) % PAGE_BYTES) % PAGE_BYTES;
    if (sbrk((intptr_t)lead) == (void *)-1) die("sbrk");
    parts[4] = (struct part){"heap", sbrk((intptr_t)(pages * PAGE_BYTES)), pages, false};
    if (parts[4].at == (void *)-1) die("sbrk");
    fill(parts[4].at, pages);
    say("churn ready pages=%zu", PARTS * pages);
    for (;;) {
        if (asked) {
            asked = 0;
            count = change(parts, count, pages);
            say("churn changed");
        }
        if (verify_requested()) verify(parts, count);
        rest_us(REST_US);
    }
}
