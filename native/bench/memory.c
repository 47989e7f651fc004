/*
 * Pages that know what must be in them. The first word of each cache line depends on the page's number, on
 * how often the page has been written and on the line, so that a page in another's place, one that missed a
 * write, and one of which a part is of another time are all found. The other words are filled once: no page
 * looks like another one to whatever compresses or merges.
 */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES     (2UL << 20)
#define WORDS_PER_PAGE (PAGE_BYTES / sizeof(uint64_t))
#define WORDS_PER_LINE 8

/* The finalizer of splitmix64. */
static uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

static uint64_t *page_at(const struct memory *memory, size_t page)
{
    return (uint64_t *)(memory->start + page * PAGE_BYTES);
}

/* Word of the first line of a page that has been written `generation` times; those of the others follow. */
static uint64_t first_word(const struct memory *memory, size_t page, uint64_t generation)
{
    return mix(((memory->first + page + 1) << 24) + generation);
}

static uint64_t generation_of(const struct memory *memory, size_t page)
{
    return memory->written / memory->pages + (page < memory->written % memory->pages);
}

static void write_lines(const struct memory *memory, size_t page, uint64_t generation)
{
    uint64_t *words = page_at(memory, page), word = first_word(memory, page, generation);

    for (size_t i = 0; i < WORDS_PER_PAGE; i += WORDS_PER_LINE) words[i] = word + i;
}

static void fill(const struct memory *memory, size_t page)
{
    uint64_t *words = page_at(memory, page), word = first_word(memory, page, 0);

    for (size_t i = 0; i < WORDS_PER_PAGE; i++) words[i] = word ^ (i << 32);
    write_lines(memory, page, generation_of(memory, page));
}

/* Pages that follow each other in the mapping get frames that have nothing to do with each other. */
static void fill_in_random_order(const struct memory *memory)
{
    size_t bytes = memory->pages * sizeof(uint32_t);
    uint32_t *order = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (order == MAP_FAILED) die("mmap of %zu bytes: %s", bytes, strerror(errno));
    for (size_t i = 0; i < memory->pages; i++) order[i] = (uint32_t)i;
    for (size_t i = memory->pages - 1; i > 0; i--) {
        size_t other = mix(memory->first + i) % (i + 1);
        uint32_t kept = order[i];

        order[i] = order[other];
        order[other] = kept;
    }
    for (size_t i = 0; i < memory->pages; i++) fill(memory, order[i]);
    munmap(order, bytes);
}

static void fill_all(const struct memory *memory)
{
    if (memory->scattered) {
        fill_in_random_order(memory);
        return;
    }
    for (size_t i = 0; i < memory->pages; i++) fill(memory, i);
}

static void advise(const struct memory *memory, size_t bytes)
{
    int advice = memory->scattered ? MADV_NOHUGEPAGE : MADV_HUGEPAGE;

    /* EINVAL: a kernel without huge pages. */
    if (madvise(memory->start, bytes, advice) && errno != EINVAL) die("madvise: %s", strerror(errno));
}

void memory_map(struct memory *memory)
{
    size_t bytes = memory->pages * PAGE_BYTES;
    /* Room for alignment: only a range that starts on 2 MiB gets huge pages throughout. */
    char *raw = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (raw == MAP_FAILED) die("mmap of %zu bytes: %s", bytes, strerror(errno));
    memory->start = (char *)(((uintptr_t)raw + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
    advise(memory, bytes);
    fill_all(memory);
}

/* Mapped anew, not emptied (MADV_DONTNEED): that leaves the page tables, and where they held small pages, as
 * after a restore, the kernel puts small ones again. */
void memory_renew(struct memory *memory)
{
    size_t bytes = memory->pages * PAGE_BYTES;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

    if (mmap(memory->start, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
        die("mmap of %zu bytes: %s", bytes, strerror(errno));
    advise(memory, bytes);
    fill_all(memory);
}

void memory_write(struct memory *memory, size_t pages)
{
    for (; pages > 0; pages--) {
        write_lines(memory, memory->written % memory->pages, memory->written / memory->pages + 1);
        memory->written++;
    }
}

void memory_touch(const struct memory *memory)
{
    for (size_t i = 0; i < memory->pages; i++) (void)*(volatile uint64_t *)page_at(memory, i);
}

static bool is_right(const struct memory *memory, size_t page)
{
    const uint64_t *words = page_at(memory, page);
    uint64_t word = first_word(memory, page, generation_of(memory, page));

    for (size_t i = 0; i < WORDS_PER_PAGE; i += WORDS_PER_LINE)
        if (words[i] != word + i) return false;
    return true;
}

uint64_t memory_verify(const struct memory *memory, uint64_t *page)
{
    uint64_t wrong = 0;

    for (size_t i = 0; i < memory->pages; i++) {
        if (is_right(memory, i)) continue;
        if (wrong++ == 0) *page = memory->first + i;
    }
    return wrong;
}
