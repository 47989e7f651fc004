/* SPDX-License-Identifier: Apache-2.0 */
/* Transparent huge pages: exchanged whole where both sides have one, and as good as any afterwards. */
#define _GNU_SOURCE
#include "kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum { HUGE_PAGES = 512, PAGES = 4 * HUGE_PAGES };

/* How many kB of a mapping are mapped by huge pages. */
static long huge_kib(const void *at)
{
    return smaps(at, "ShmemPmdMapped");
}

static struct files make(bool huge_a, bool huge_b)
{
    struct files files = make_huge_files(PAGES, huge_a, huge_b);

    if ((huge_a && huge_kib(files.at_a) < 8192) || (huge_b && huge_kib(files.at_b) < 8192))
        skip("the kernel has no huge pages for us: %ld and %ld kB", huge_kib(files.at_a),
             huge_kib(files.at_b));
    return files;
}

static void whole(void)
{
    struct files files = make(true, true);

    exchange(&files, 0, HUGE_PAGES, 2 * HUGE_PAGES);
    check_files(&files, 0, HUGE_PAGES, 2 * HUGE_PAGES);
    /* Huge they are, and mapped so by the next touch. */
    CHECK(huge_kib(files.at_a) == 8192 && huge_kib(files.at_b) == 8192, "%ld and %ld kB",
          huge_kib(files.at_a), huge_kib(files.at_b));
    exchange(&files, 0, HUGE_PAGES, 2 * HUGE_PAGES);
    check_files(&files, 0, 0, 0);
}

static void check_left(struct files *files, size_t a, size_t b, size_t pages)
{
    uint8_t *status = calloc(1, pages);

    CHECK(try_exchange(files, a, b, pages, 0, status) == 0);
    for (size_t page = 0; page < pages; page++)
        CHECK(status[page] == MWARP_PAGE_LARGE, "%zu: %u", page, status[page]);
    check_files(files, 0, 0, 0);
    REFUSED(try_exchange(files, a, b, pages, MWARP_X_WHOLE, status), EBUSY);
    check_files(files, 0, 0, 0);
    /* By contents it can be done, there and back. */
    CHECK(try_exchange(files, a, b, pages, MWARP_X_CONTENTS, status) == (long)pages);
    check_files(files, a, b, pages);
    CHECK(try_exchange(files, a, b, pages, MWARP_X_CONTENTS, status) == (long)pages);
    check_files(files, 0, 0, 0);
    free(status);
}

/* A part of one, one against small pages, or two that lie otherwise: left, and still huge. */
static void not_alike(void)
{
    struct files files = make(true, true);
    uint8_t status[8];

    CHECK(try_exchange(&files, 3, 3, 8, 0, status) == 0 && status[0] == MWARP_PAGE_LARGE);
    CHECK(huge_kib(files.at_a) == 8192 && huge_kib(files.at_b) == 8192);
    check_left(&files, 3, 700, 40);
    check_left(&files, 256, 256, HUGE_PAGES);
    files = make(true, false);
    check_left(&files, 0, 0, HUGE_PAGES + 7);
}

/* Whole ones in the middle are taken, the parts around them left. */
static void mixed(void)
{
    struct files files = make(true, true);
    uint8_t *status = calloc(1, PAGES);

    CHECK(try_exchange(&files, 100, 100, 3 * HUGE_PAGES, 0, status) == 2 * HUGE_PAGES);
    check_files(&files, HUGE_PAGES, HUGE_PAGES, 2 * HUGE_PAGES);
    CHECK(try_exchange(&files, 100, 100, 3 * HUGE_PAGES, MWARP_X_CONTENTS, status) == 3 * HUGE_PAGES);
    for (size_t page = 0; page < PAGES; page++) {
        bool done =
            (page >= 100 && page < HUGE_PAGES) || (page >= 3 * HUGE_PAGES && page < 100 + 3 * HUGE_PAGES);

        CHECK(is_page(files.at_a + page * WORDS, done ? 'b' : 'a', page), "page %zu", page);
    }
}

/* What the kernel does with huge pages, it can do with those that came by an exchange. */
static void split_punched_swapped_collapsed(void)
{
    struct files files = make(true, true);

    exchange(&files, 0, 0, PAGES);
    /* Split by a hole in the middle; the hole is zeros, all else as it was. */
    CHECK(fallocate(files.a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10 * PAGE, PAGE) == 0);
    CHECK(files.at_a[10 * WORDS] == 0);
    fill(files.at_a + 10 * WORDS, 'b', 10);
    check_files(&files, 0, 0, PAGES);
    CHECK(swap_out(files.at_b, PAGES) > HUGE_PAGES);
    check_files(&files, 0, 0, PAGES);
    /* Small ones are made huge again, and go back whole or page by page. */
    if (madvise(files.at_a, PAGES * PAGE, MADV_COLLAPSE) != 0)
        CHECK(errno == EINVAL || errno == EAGAIN || errno == EBUSY || errno == ENOMEM, "errno %d", errno);
    check_files(&files, 0, 0, PAGES);
    uint8_t *status = calloc(1, PAGES);
    CHECK(try_exchange(&files, 0, 0, PAGES, MWARP_X_CONTENTS, status) == PAGES);
    check_files(&files, 0, 0, 0);
    CHECK(ftruncate(files.a, PAGE) == 0 && ftruncate(files.b, 0) == 0);
}

const struct test huge_tests[] = {
    {"huge pages change places whole and stay huge", whole},
    {"what is not huge on both sides is left and named", not_alike},
    {"whole huge pages of an extent change places, and its ends are left", mixed},
    {"huge pages are split, punched, swapped and collapsed after an exchange",
     split_punched_swapped_collapsed},
    {NULL, NULL},
};
