/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that somebody uses: left where they are, named, and exchanged by their contents where that is asked
 * for. */
#define _GNU_SOURCE
#include "kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGES = 64, FIRST = 20, COUNT = 3 };

/* A pipe that has COUNT pages of a in it. */
static int hold_in_pipe(struct files *files)
{
    struct iovec piece = {.iov_base = files->at_a + FIRST * WORDS, .iov_len = COUNT * PAGE};
    int ends[2];

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    CHECK(vmsplice(ends[1], &piece, 1, 0) == (ssize_t)(COUNT * PAGE));
    close(ends[1]);
    return ends[0];
}

/* An io_uring with COUNT pages of a as a fixed buffer: they are pinned until it is closed. */
static int hold_in_uring(struct files *files)
{
    struct iovec piece = {.iov_base = files->at_a + FIRST * WORDS, .iov_len = COUNT * PAGE};
    struct io_uring_params params = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 4, &params);

    CHECK(ring >= 0, "errno %d", errno);
    CHECK(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &piece, 1) == 0, "errno %d", errno);
    return ring;
}

static void check_held(struct files *files, uint8_t *status)
{
    for (size_t page = 0; page < PAGES; page++) {
        bool held = page >= FIRST && page < FIRST + COUNT;

        CHECK(status[page] == (held ? MWARP_PAGE_HELD : MWARP_PAGE_EXCHANGED), "page %zu: %u", page,
              status[page]);
        CHECK(is_page(files->at_a + page * WORDS, held ? 'a' : 'b', page), "page %zu", page);
        CHECK(is_page(files->at_b + page * WORDS, held ? 'b' : 'a', page), "page %zu", page);
    }
}

static void held_pages(int (*hold)(struct files *files))
{
    struct files files = make_files(PAGES);
    uint8_t status[PAGES];
    int holder = hold(&files);

    CHECK(try_exchange(&files, 0, 0, PAGES, 0, status) == PAGES - COUNT);
    check_held(&files, status);
    /* Again takes back what was exchanged, and leaves out the same pages. */
    CHECK(try_exchange(&files, 0, 0, PAGES, 0, status) == PAGES - COUNT);
    check_files(&files, 0, 0, 0);

    memset(status, 0xee, sizeof status);
    REFUSED(try_exchange(&files, 0, 0, PAGES, MWARP_X_WHOLE, status), EBUSY);
    check_files(&files, 0, 0, 0);
    for (size_t page = 0; page < PAGES; page++)
        CHECK(status[page] ==
              (page >= FIRST && page < FIRST + COUNT ? MWARP_PAGE_HELD : MWARP_PAGE_UNTOUCHED));

    CHECK(try_exchange(&files, 0, 0, PAGES, MWARP_X_CONTENTS, status) == PAGES);
    check_files(&files, 0, 0, PAGES);
    for (size_t page = 0; page < PAGES; page++)
        CHECK(status[page] ==
              (page >= FIRST && page < FIRST + COUNT ? MWARP_PAGE_CONTENTS : MWARP_PAGE_EXCHANGED));
    close(holder);
    /* An io_uring lets go a little later. */
    long done = -1;
    for (int attempt = 0; attempt < 100 && done < 0; attempt++) {
        done = try_exchange(&files, 0, 0, PAGES, MWARP_X_WHOLE, status);
        if (done < 0) usleep(50000);
    }
    CHECK(done == PAGES, "errno %d", errno);
    check_files(&files, 0, 0, 0);
}

static void in_a_pipe(void)
{
    held_pages(hold_in_pipe);
}
static void in_a_uring(void)
{
    held_pages(hold_in_uring);
}

/* A page is taken into use after the exchange: it is taken back all the same, and no byte is anybody else's.
 */
static void taken_back_under_a_pin(void)
{
    struct files files = make_files(PAGES);
    uint8_t status[PAGES];

    exchange(&files, 0, 0, PAGES);
    int pipe_end = hold_in_pipe(&files);
    CHECK(try_exchange(&files, 0, 0, PAGES, MWARP_X_CONTENTS, status) == PAGES);
    check_files(&files, 0, 0, 0);
    close(pipe_end);
}

/* The pin is the file's page: what comes through it goes to the file that it was pinned in. */
static void writes_through_a_pin(void)
{
    struct files files = make_files(PAGES);
    struct iovec piece = {.iov_base = files.at_a + FIRST * WORDS, .iov_len = COUNT * PAGE};
    struct io_uring_params params = {0};
    uint8_t status[PAGES];
    int ring = (int)syscall(SYS_io_uring_setup, 4, &params), source = memfd_create("source", 0);
    uint64_t page[WORDS];

    CHECK(ring >= 0 && source >= 0);
    CHECK(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &piece, 1) == 0);
    fill(page, 'x', 1);
    CHECK(pwrite(source, page, PAGE, 0) == (ssize_t)PAGE);
    CHECK(try_exchange(&files, 0, 0, PAGES, MWARP_X_CONTENTS, status) == PAGES);

    char *sq = mmap(NULL, params.sq_off.array + params.sq_entries * sizeof(uint32_t), PROT_READ | PROT_WRITE,
                    MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *sqe = mmap(NULL, params.sq_entries * sizeof *sqe, PROT_READ | PROT_WRITE, MAP_SHARED,
                                    ring, IORING_OFF_SQES);
    sqe[0] = (struct io_uring_sqe){.opcode = IORING_OP_READ_FIXED,
                                   .fd = source,
                                   .addr = (uintptr_t)piece.iov_base,
                                   .len = PAGE,
                                   .buf_index = 0};
    *(uint32_t *)(sq + params.sq_off.array) = 0;
    __atomic_store_n((uint32_t *)(sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    CHECK(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1, "errno %d", errno);
    CHECK(is_page(files.at_a + FIRST * WORDS, 'x', 1));
    CHECK(is_page(files.at_b + FIRST * WORDS, 'a', FIRST));
    close(ring);
}

const struct test held_tests[] = {
    {"pages in a pipe stay and are named", in_a_pipe},
    {"pages pinned by io_uring stay and are named", in_a_uring},
    {"an exchange is taken back exactly though pages are held by then", taken_back_under_a_pin},
    {"what is read into a pinned page lands in its file", writes_through_a_pin},
    {NULL, NULL},
};
