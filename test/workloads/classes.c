/*
 * classes UNIT: memory of every class that a move must treat in its own way, UNIT pages of each: zero pages,
 * the huge zero page, equal pages that KSM merges (zeroed ones among them), pages swapped out and brought in
 * again, MADV_FREE, code made at run time, PROT_NONE, locked, read-only, pages a pipe holds (vmsplice),
 * shared with a child since fork. All of it is written once; what it must read afterwards follows from its
 * place.
 *
 * Output: "classes ready pages=N at=ADDRESS swapped=ADDRESS" (of the read-only ones, and of those swapped
 * out, every second one of which was read again), and for each SIGUSR1 "verify ok classes=N" or "verify BAD
 * CLASS ...".
 */
#define _GNU_SOURCE
#include "common.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEED = 11, HUGE_PAGES = 512, CONTENTS = 8, PIPE_PAGES = 8, REST_US = 20000 };

static size_t unit;
static size_t bad;

static uint64_t *page_at(void *start, size_t index)
{
    return (uint64_t *)start + index * WORDS_PER_PAGE;
}

static void *map(size_t pages, int protection)
{
    void *at = mmap(NULL, pages * PAGE_BYTES, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED) die("mmap of %zu pages failed", pages);
    return at;
}

static void *filled(size_t pages)
{
    void *at = map(pages, PROT_READ | PROT_WRITE);

    madvise(at, pages * PAGE_BYTES, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < pages; i++) fill_page(page_at(at, i), SEED);
    return at;
}

static bool is_zero(const uint64_t *page)
{
    for (size_t i = 0; i < WORDS_PER_PAGE; i++)
        if (page[i] != 0) return false;
    return true;
}

static void wrong(const char *class, size_t index, const void *at)
{
    if (++bad <= 5) say("verify BAD %s page %zu at %p", class, index, at);
}

static void expect_filled(const char *class, void *at, size_t pages)
{
    for (size_t i = 0; i < pages; i++)
        if (check_page(page_at(at, i), SEED) >= 0) wrong(class, i, page_at(at, i));
}

static void expect_zero(const char *class, void *at, size_t pages)
{
    for (size_t i = 0; i < pages; i++)
        if (!is_zero(page_at(at, i))) wrong(class, i, page_at(at, i));
}

/* Each page all one byte, of CONTENTS different ones; every CONTENTS-th is zero. */
static uint8_t equal_content(size_t index)
{
    return (uint8_t)(index % CONTENTS * 17);
}

static void expect_equal(void *at, size_t pages)
{
    for (size_t i = 0; i < pages; i++) {
        const uint8_t *page = (uint8_t *)at + i * PAGE_BYTES;

        for (size_t j = 0; j < PAGE_BYTES; j++) {
            if (page[j] == equal_content(i)) continue;
            wrong("merged", i, page);
            break;
        }
    }
}

/* The kernel may drop such a page at any time, but only whole. */
static void expect_free_or_filled(void *at, size_t pages)
{
    for (size_t i = 0; i < pages; i++)
        if (check_page(page_at(at, i), SEED) >= 0 && !is_zero(page_at(at, i)))
            wrong("lazily freed", i, page_at(at, i));
}

/* mov eax, index; ret */
static void write_code(uint8_t *at, uint32_t index)
{
    at[0] = 0xb8;
    memcpy(at + 1, &index, sizeof(index));
    at[5] = 0xc3;
}

static void expect_code(void *at, size_t pages)
{
    for (size_t i = 0; i < pages; i++) {
        uint32_t (*function)(void);
        void *entry = (uint8_t *)at + i * PAGE_BYTES;

        memcpy(&function, &entry, sizeof(function));
        if (function() != (uint32_t)i) wrong("code", i, entry);
    }
}

static void expect_piped(int reader, int writer)
{
    uint64_t page[WORDS_PER_PAGE];

    /* Taken out and put back: the pipe must hold the same before and after. */
    for (size_t i = 0; i < PIPE_PAGES; i++) {
        if (read(reader, page, sizeof(page)) != (ssize_t)sizeof(page)) die("short read from the pipe");
        for (size_t j = 0; j < WORDS_PER_PAGE; j++) {
            if (page[j] == mix64(i * WORDS_PER_PAGE + j)) continue;
            wrong("piped", i, NULL);
            break;
        }
        if (write(writer, page, sizeof(page)) != (ssize_t)sizeof(page)) die("short write to the pipe");
    }
}

static void fill_pipe(int writer)
{
    uint64_t *pages = map(PIPE_PAGES, PROT_READ | PROT_WRITE);
    struct iovec all = {.iov_base = pages, .iov_len = PIPE_PAGES * PAGE_BYTES};

    for (size_t i = 0; i < PIPE_PAGES * WORDS_PER_PAGE; i++) pages[i] = mix64(i);
    /* The pipe refers to these very frames from now on. */
    if (vmsplice(writer, &all, 1, 0) != (ssize_t)all.iov_len) die("vmsplice failed");
}

/* A child that only looks: what it shares must be right there too. */
static int start_child(void *shared, int *answers)
{
    int orders[2], replies[2];

    if (pipe(orders) < 0 || pipe(replies) < 0) die("pipe failed");
    pid_t child = fork();
    if (child < 0) die("fork failed");
    if (child == 0) {
        char order;

        close(orders[1]);
        while (read(orders[0], &order, 1) == 1) {
            size_t before = bad;

            expect_filled("shared (child)", shared, unit);
            order = bad == before ? '+' : '-';
            if (write(replies[1], &order, 1) != 1) break;
        }
        _exit(0);
    }
    close(orders[0]);
    close(replies[1]);
    *answers = replies[0];
    return orders[1];
}

static void expect_child(int orders, int answers)
{
    char answer = '-';

    if (write(orders, "?", 1) != 1 || read(answers, &answer, 1) != 1 || answer != '+')
        wrong("shared (child)", 0, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 2) die("usage: classes UNIT");
    unit = (size_t)parse_number("UNIT", argv[1], 1, 65536);
    workload_init();
    size_t bytes = unit * PAGE_BYTES;
    volatile uint64_t sum = 0;

    void *zero = map(unit, PROT_READ | PROT_WRITE);
    madvise(zero, bytes, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < unit; i++) sum += *page_at(zero, i);

    uint8_t *huge_area = map(3 * HUGE_PAGES, PROT_READ | PROT_WRITE);
    size_t lead = (size_t)(-(uintptr_t)huge_area % (HUGE_PAGES * PAGE_BYTES));
    void *huge_zero = huge_area + lead;
    madvise(huge_zero, HUGE_PAGES * PAGE_BYTES, MADV_HUGEPAGE);
    sum += *page_at(huge_zero, 7);

    uint8_t *merged = map(unit, PROT_READ | PROT_WRITE);
    madvise(merged, bytes, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < unit; i++) memset(merged + i * PAGE_BYTES, equal_content(i), PAGE_BYTES);
    madvise(merged, bytes, MADV_MERGEABLE);

    void *swapped = filled(unit);
    madvise(swapped, bytes, MADV_PAGEOUT);
    for (size_t i = 0; i < unit; i += 2) sum += *page_at(swapped, i);

    void *lazy = filled(unit);
    madvise(lazy, bytes, MADV_FREE);

    void *code = map(unit, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < unit; i++) write_code((uint8_t *)code + i * PAGE_BYTES, (uint32_t)i);
    if (mprotect(code, bytes, PROT_READ | PROT_EXEC) < 0) die("mprotect failed");

    void *hidden = filled(unit), *locked = filled(unit), *constant = filled(unit);
    /* Nothing but the seed and its place makes a page, so a hidden one can be checked by making it visible.
     */
    if (mprotect(hidden, bytes, PROT_NONE) < 0 || mprotect(constant, bytes, PROT_READ) < 0)
        die("mprotect failed");
    if (mlock(locked, bytes) < 0) say("classes: pages could not be locked");

    int pipe_ends[2], answers;
    if (pipe(pipe_ends) < 0) die("pipe failed");
    fill_pipe(pipe_ends[1]);
    void *shared = filled(unit);
    int orders = start_child(shared, &answers);

    say("classes ready pages=%zu at=%p swapped=%p", 9 * unit + HUGE_PAGES + PIPE_PAGES, constant, swapped);
    for (;;) {
        rest_us(REST_US);
        if (!verify_requested()) continue;
        bad = 0;
        expect_zero("zero", zero, unit);
        expect_zero("huge zero", huge_zero, HUGE_PAGES);
        expect_equal(merged, unit);
        expect_filled("swapped", swapped, unit);
        expect_free_or_filled(lazy, unit);
        expect_code(code, unit);
        if (mprotect(hidden, bytes, PROT_READ) < 0) die("mprotect failed");
        expect_filled("hidden", hidden, unit);
        if (mprotect(hidden, bytes, PROT_NONE) < 0) die("mprotect failed");
        expect_filled("locked", locked, unit);
        expect_filled("read-only", constant, unit);
        expect_piped(pipe_ends[0], pipe_ends[1]);
        expect_filled("shared", shared, unit);
        expect_child(orders, answers);
        /* Next time, too, half of these are in memory and the others are not. */
        madvise(swapped, bytes, MADV_PAGEOUT);
        for (size_t i = 0; i < unit; i += 2) sum += *page_at(swapped, i);
        say(bad == 0 ? "verify ok classes=%d" : "verify BAD of %d classes", 12);
    }
}
