/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the pages while they change places: each in a process of its own, until the race is over. */
#define _GNU_SOURCE
#include "races.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum { EXTENTS = 24, LONGEST = 16, ROUGH_PAGES = RACE_PAGES - COUNTED_PAGES };

static uint32_t seed(void)
{
    return (uint32_t)getpid() * 2654435761u | 1;
}

/* Some extents that do not overlap, all among the counted pages or all among the others. */
static uint32_t choose_extents(struct mwarp_extent *extents, uint32_t *random, bool whole_files)
{
    bool rough = race_random(random, 4) == 0;
    uint64_t first = rough ? COUNTED_PAGES : 0, pages = rough ? ROUGH_PAGES : COUNTED_PAGES, at = 0;
    uint64_t shift = race_random(random, 2) ? 0 : race_random(random, (uint32_t)pages);
    uint32_t count = 0;

    if (whole_files && race_random(random, 4) == 0) {
        extents[0] = (struct mwarp_extent){.a = 0, .b = 0, .pages = COUNTED_PAGES};
        return 1;
    }
    while (count < EXTENTS) {
        uint64_t length = 1 + race_random(random, LONGEST);

        at += race_random(random, 40);
        if (at + length > pages) break;
        /* Side b is turned round by `shift`; what would lie across its end is left out. */
        uint64_t b = (at + shift) % pages;
        if (b + length <= pages)
            extents[count++] = (struct mwarp_extent){.a = first + at, .b = first + b, .pages = length};
        at += length;
    }
    return count;
}

static void count_outcome(struct race *race, const struct mwarp_exchange *call, long done,
                          const uint8_t *status, uint64_t pages)
{
    int error = errno;

    __atomic_fetch_add(&race->calls, 1, __ATOMIC_RELAXED);
    if (done < 0) {
        bool expected = (error == EBUSY && call->flags == MWARP_X_WHOLE) || error == EINVAL ||
                        error == ENOMEM || (error == EIO && call->flags == MWARP_X_CONTENTS && call->a == -1);

        CHECK(expected, "errno %d", error);
        if (error == EBUSY) __atomic_fetch_add(&race->taken_back, 1, __ATOMIC_RELAXED);
        return;
    }
    uint64_t exchanged = 0;
    for (uint64_t page = 0; page < pages; page++) {
        exchanged += status[page] == MWARP_PAGE_EXCHANGED || status[page] == MWARP_PAGE_CONTENTS;
        CHECK(status[page] >= MWARP_PAGE_EXCHANGED && status[page] <= MWARP_PAGE_GONE, "status %u",
              status[page]);
    }
    CHECK(exchanged == (uint64_t)done, "%lu by the status, %ld by the result", exchanged, done);
    CHECK(call->flags == 0 || exchanged == pages, "%lu of %lu", exchanged, pages);
    __atomic_fetch_add(&race->exchanged, exchanged, __ATOMIC_RELAXED);
    __atomic_fetch_add(&race->left, pages - exchanged, __ATOMIC_RELAXED);
}

static uint64_t all_pages(const struct mwarp_extent *extents, uint32_t count)
{
    uint64_t pages = 0;

    for (uint32_t i = 0; i < count; i++) pages += extents[i].pages;
    return pages;
}

void race_exchange(struct race *race)
{
    static const uint32_t flags[] = {0, 0, MWARP_X_WHOLE, MWARP_X_CONTENTS};
    static uint8_t status[RACE_PAGES];
    struct mwarp_extent extents[EXTENTS];
    uint32_t random = seed();

    while (race_goes_on(race)) {
        uint32_t count = choose_extents(extents, &random, true);
        struct mwarp_exchange call = request(&race->files, extents, count, status,
                                             flags[race_random(&random, race->contents ? 4 : 3)]);

        if (count == 0) continue;
        if (race_random(&random, 2)) {
            call.a = race->files.b;
            call.b = race->files.a;
        }
        count_outcome(race, &call, ioctl(race->files.device, MWARP_IOC_EXCHANGE, &call), status,
                      all_pages(extents, count));
    }
}

/* By way of tables, which are now and then left half used. */
void race_exchange_tables(struct race *race)
{
    static const uint32_t flags[] = {0, 0, MWARP_X_WHOLE, MWARP_X_CONTENTS};
    static uint8_t status[RACE_PAGES];
    struct mwarp_extent extents[EXTENTS], frames[EXTENTS];
    uint32_t random = seed();

    while (race_goes_on(race)) {
        uint32_t count = choose_extents(extents, &random, false);
        struct mwarp_table_create create = {.file = race->files.a};
        struct mwarp_table_fill fill = {.extents = (uintptr_t)frames, .count = count};
        struct mwarp_exchange call =
            request(&race->files, extents, count, status, flags[race_random(&random, 4)]);
        int table = ioctl(race->files.device, MWARP_IOC_TABLE_CREATE, &create);

        CHECK(table >= 0, "errno %d", errno);
        for (uint32_t i = 0; i < count; i++) {
            frames[i] =
                (struct mwarp_extent){.a = extents[i].a + 7777, .b = extents[i].a, .pages = extents[i].pages};
            extents[i].a += 7777;
        }
        call.a = -1;
        if (count > 0 && ioctl(table, MWARP_IOC_TABLE_FILL, &fill) >= 0)
            count_outcome(race, &call, ioctl(table, MWARP_IOC_TABLE_EXCHANGE, &call), status,
                          all_pages(extents, count));
        close(table);
    }
}

/* A counted page of either file. */
static uint64_t *any_page(struct race *race, uint32_t *random)
{
    uint64_t *file = race_random(random, 2) ? race->files.at_a : race->files.at_b;

    return file + race_random(random, COUNTED_PAGES) * WORDS;
}

void race_write(struct race *race)
{
    uint32_t random = seed();

    for (uint64_t made = 0; race_goes_on(race); made = 0) {
        for (; made < 500; made++) __atomic_fetch_add(any_page(race, &random) + 1, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&race->written, made, __ATOMIC_RELAXED);
    }
}

void race_read(struct race *race)
{
    uint32_t random = seed();
    uint64_t page[WORDS];

    while (race_goes_on(race)) {
        int fd = race_random(&random, 2) ? race->files.a : race->files.b;

        CHECK(pread(fd, page, PAGE, race_random(&random, COUNTED_PAGES) * (off_t)PAGE) == (ssize_t)PAGE);
        CHECK(page[0] < 2 * RACE_PAGES && page[0] % RACE_PAGES < COUNTED_PAGES, "%lx", page[0]);
        /* It was one page that was read, whatever took its place meanwhile. */
        CHECK(page[WORDS - 1] == page[0], "%lx and %lx", page[0], page[WORDS - 1]);
    }
}

void race_fork(struct race *race)
{
    uint32_t random = seed();

    while (race_goes_on(race)) {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            for (int i = 0; i < 50; i++) __atomic_fetch_add(any_page(race, &random) + 1, 1, __ATOMIC_RELAXED);
            __atomic_fetch_add(&race->written, 50, __ATOMIC_RELAXED);
            _exit(0);
        }
        race_random(&random, 2);
        CHECK(waitpid(pid, NULL, 0) == pid);
    }
}

void race_lock(struct race *race)
{
    uint32_t random = seed();

    while (race_goes_on(race)) {
        uint64_t *at = any_page(race, &random);

        CHECK(mlock(at, 8 * PAGE) == 0 || errno == EAGAIN || errno == ENOMEM, "errno %d", errno);
        usleep(500);
        munlock(at, 8 * PAGE);
    }
}

/* Maps the files anew, in part privately: copies that are written to are nobody else's. */
void race_remap(struct race *race)
{
    uint32_t random = seed();

    while (race_goes_on(race)) {
        off_t first = race_random(&random, COUNTED_PAGES - 64) * (off_t)PAGE;
        bool mine = race_random(&random, 2);
        uint64_t *at = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, mine ? MAP_PRIVATE : MAP_SHARED,
                            race_random(&random, 2) ? race->files.a : race->files.b, first);

        CHECK(at != MAP_FAILED);
        for (size_t page = 0; page < 64; page++) CHECK(at[page * WORDS] < 2 * RACE_PAGES);
        if (mine)
            for (size_t page = 0; page < 64; page++) at[page * WORDS] = UINT64_MAX;
        CHECK(munmap(at, 64 * PAGE) == 0);
    }
}

void race_pipe(struct race *race)
{
    static char sink[16 * PAGE];
    uint32_t random = seed();
    int ends[2];

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    while (race_goes_on(race)) {
        struct iovec piece = {.iov_base = race->files.at_a + race_random(&random, COUNTED_PAGES - 4) * WORDS,
                              .iov_len = 4 * PAGE};

        CHECK(vmsplice(ends[1], &piece, 1, 0) == (ssize_t)(4 * PAGE), "errno %d", errno);
        usleep(race_random(&random, 2000));
        CHECK(read(ends[0], sink, sizeof sink) == (ssize_t)(4 * PAGE));
        CHECK(*(uint64_t *)sink < 2 * RACE_PAGES, "%lx", *(uint64_t *)sink);
    }
}

void race_peek(struct race *race)
{
    uint32_t random = seed();
    uint64_t word;

    while (race_goes_on(race)) {
        struct iovec here = {.iov_base = &word, .iov_len = sizeof word};
        struct iovec there = {.iov_base = any_page(race, &random), .iov_len = sizeof word};

        CHECK(process_vm_readv(getppid(), &here, 1, &there, 1, 0) == sizeof word || !race_goes_on(race),
              "errno %d", errno);
        CHECK(word < 2 * RACE_PAGES, "%lx", word);
    }
}

void race_uring(struct race *race)
{
    struct io_uring_params params = {0};
    uint32_t random = seed();
    int ring = (int)syscall(SYS_io_uring_setup, 4, &params);

    CHECK(ring >= 0);
    while (race_goes_on(race)) {
        struct iovec piece = {.iov_base = race->files.at_b + race_random(&random, COUNTED_PAGES - 8) * WORDS,
                              .iov_len = 8 * PAGE};

        CHECK(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &piece, 1) == 0, "errno %d",
              errno);
        usleep(race_random(&random, 2000));
        CHECK(syscall(SYS_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0, "errno %d",
              errno);
    }
}

void race_punch(struct race *race)
{
    uint32_t random = seed();

    while (race_goes_on(race)) {
        off_t first = COUNTED_PAGES + race_random(&random, 100), pages = 1 + race_random(&random, 30);
        int fd = race_random(&random, 2) ? race->files.a : race->files.b;
        int mode = race_random(&random, 3) ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_KEEP_SIZE;

        CHECK(fallocate(fd, mode, first * (off_t)PAGE, pages * (off_t)PAGE) == 0 || errno == EINTR ||
                  errno == ENOMEM,
              "errno %d", errno);
        usleep(200);
    }
}

void race_truncate(struct race *race)
{
    uint32_t random = seed();

    while (race_goes_on(race)) {
        int fd = race_random(&random, 2) ? race->files.a : race->files.b;

        CHECK(ftruncate(fd, (off_t)(RACE_PAGES - race_random(&random, 120)) * (off_t)PAGE) == 0);
        usleep(200);
        CHECK(ftruncate(fd, RACE_PAGES * (off_t)PAGE) == 0);
        usleep(1000);
    }
}

void race_page_out(struct race *race)
{
    uint32_t random = seed();

    while (race_goes_on(race)) {
        uint64_t *at = race_random(&random, 2) ? race->files.at_a : race->files.at_b;

        madvise(at + race_random(&random, COUNTED_PAGES - 100) * WORDS, 100 * PAGE, MADV_PAGEOUT);
        usleep(500);
    }
}

void race_compact(struct race *race)
{
    while (race_goes_on(race)) {
        write_file("/proc/sys/vm/compact_memory", "1");
        usleep(20000);
    }
}

void race_collapse(struct race *race)
{
    uint32_t random = seed();

    /* It may have no memory for it, or find pages in use: no matter. */
    while (race_goes_on(race)) {
        madvise(race_random(&random, 2) ? race->files.at_a : race->files.at_b, HUGE, MADV_COLLAPSE);
        usleep(2000);
    }
}

/* Of the control group that the race is in. */
void race_reclaim(struct race *race)
{
    int fd = open("/sys/fs/cgroup/race/memory.reclaim", O_WRONLY | O_CLOEXEC);

    CHECK(fd >= 0, "errno %d", errno);
    while (race_goes_on(race)) {
        CHECK(write(fd, "1M", 2) == 2 || errno == EAGAIN, "errno %d", errno);
        usleep(50000);
    }
}
