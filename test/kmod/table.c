/* SPDX-License-Identifier: Apache-2.0 */
/* The table: frames of a guest with the pages behind them, held until they are exchanged or nobody has it any
 * more. */
#define _GNU_SOURCE
#include "kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 64 };
/* Guest frames are not where the file's pages are. */
#define FRAME 0x100000ul

static int make_table(struct files *files)
{
    struct mwarp_table_create create = {.file = files->a};
    int table = ioctl(files->device, MWARP_IOC_TABLE_CREATE, &create);

    CHECK(table >= 0, "errno %d", errno);
    return table;
}

static long fill_table(int table, uint64_t frame, uint64_t page, uint64_t pages)
{
    struct mwarp_extent extent = {.a = frame, .b = page, .pages = pages};
    struct mwarp_table_fill fill = {.extents = (uintptr_t)&extent, .count = 1};

    return ioctl(table, MWARP_IOC_TABLE_FILL, &fill);
}

static long exchange_table(int table, struct files *files, uint64_t frame, uint64_t b, uint64_t pages,
                           uint32_t flags, uint8_t *status)
{
    struct mwarp_extent extent = {.a = frame, .b = b, .pages = pages};
    struct mwarp_exchange call = request(files, &extent, 1, status, flags);

    call.a = -1;
    return ioctl(table, MWARP_IOC_TABLE_EXCHANGE, &call);
}

static void frames(void)
{
    struct files files = make_files(PAGES);
    int table = make_table(&files);
    uint8_t status[PAGES];

    CHECK(fill_table(table, FRAME, 8, 16) == 16);
    CHECK(fill_table(table, 5, 40, 4) == 20);
    CHECK(exchange_table(table, &files, FRAME + 2, 30, 10, 0, status) == 10, "errno %d", errno);
    check_files(&files, 10, 30, 10);
    /* Those are no longer in it; the others are. */
    REFUSED(exchange_table(table, &files, FRAME + 2, 30, 10, 0, status), ENOENT);
    REFUSED(exchange_table(table, &files, FRAME, 0, 3, 0, status), ENOENT);
    check_files(&files, 10, 30, 10);
    CHECK(fill_table(table, FRAME + 2, 10, 10) == 20);
    CHECK(exchange_table(table, &files, FRAME + 2, 30, 10, MWARP_X_WHOLE, status) == 10);
    check_files(&files, 0, 0, 0);
    close(table);
}

/* Held against everybody else's exchange, and against being swapped out; free again with the descriptor. */
static void holds(void)
{
    struct files files = make_files(PAGES);
    int table = make_table(&files);
    uint8_t status[PAGES];

    CHECK(fill_table(table, FRAME, 0, 16) == 16);
    CHECK(swap_out(files.at_a, 16) == 0);
    CHECK(swap_out(files.at_a, PAGES) > 16);
    CHECK(try_exchange(&files, 0, 0, PAGES, 0, status) == PAGES - 16);
    for (size_t page = 0; page < PAGES; page++)
        CHECK(status[page] == (page < 16 ? MWARP_PAGE_HELD : MWARP_PAGE_EXCHANGED));
    check_files(&files, 16, 16, PAGES - 16);
    close(table);
    CHECK(try_exchange(&files, 0, 0, 16, MWARP_X_WHOLE, status) == 16, "errno %d", errno);
    check_files(&files, 0, 0, PAGES);
}

/* All of a fill, or nothing of it. */
static void fills(void)
{
    struct files files = make_files(PAGES);
    int table = make_table(&files);
    struct mwarp_extent twice[] = {
        {.a = 0, .b = 0, .pages = 4}, {.a = 4, .b = 4, .pages = 4}, {.a = 2, .b = 9, .pages = 1}};
    struct mwarp_table_fill fill = {.extents = (uintptr_t)twice, .count = 3};
    struct mwarp_table_create create = {.file = files.a, .flags = 1};
    uint8_t status[PAGES];

    REFUSED(ioctl(table, MWARP_IOC_TABLE_FILL, &fill), EEXIST);
    REFUSED(exchange_table(table, &files, 0, 0, 1, 0, status), ENOENT);
    REFUSED(fill_table(table, FRAME, PAGES - 2, 3), EINVAL);
    REFUSED(fill_table(table, UINT64_MAX, 0, 2), EINVAL);
    REFUSED(fill_table(table, FRAME, 0, 0), EINVAL);
    CHECK(fill_table(table, FRAME, 0, 4) == 4);
    REFUSED(fill_table(table, FRAME + 3, 9, 4), EEXIST);
    fill.flags = 1;
    REFUSED(ioctl(table, MWARP_IOC_TABLE_FILL, &fill), EINVAL);
    fill = (struct mwarp_table_fill){.extents = 16, .count = 1};
    REFUSED(ioctl(table, MWARP_IOC_TABLE_FILL, &fill), EFAULT);
    REFUSED(ioctl(files.device, MWARP_IOC_TABLE_CREATE, &create), EINVAL);
    create = (struct mwarp_table_create){.file = files.device};
    REFUSED(ioctl(files.device, MWARP_IOC_TABLE_CREATE, &create), EOPNOTSUPP);
    struct mwarp_extent extent = {.a = FRAME, .b = 0, .pages = 4};
    struct mwarp_exchange call = request(&files, &extent, 1, status, 0);
    REFUSED(ioctl(table, MWARP_IOC_TABLE_EXCHANGE, &call), EINVAL);
    REFUSED(ioctl(table, MWARP_IOC_EXCHANGE, &call), ENOTTY);
    call.a = -1;
    call.b = files.a;
    REFUSED(ioctl(table, MWARP_IOC_TABLE_EXCHANGE, &call), EINVAL);
    CHECK(exchange_table(table, &files, FRAME, 0, 4, 0, status) == 4);
    check_files(&files, 0, 0, 4);
}

/* A page that is no longer the source's is not handed out, and two frames with one page are held by each
 * other. */
static void gone(void)
{
    struct files files = make_files(PAGES);
    int table = make_table(&files);
    uint8_t status[PAGES];

    CHECK(fill_table(table, FRAME, 0, 8) == 8);
    CHECK(fallocate(files.a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PAGE, 3 * PAGE) == 0);
    CHECK(exchange_table(table, &files, FRAME, 0, 8, 0, status) == 5);
    for (size_t page = 0; page < 8; page++)
        CHECK(status[page] == (page >= 2 && page < 5 ? MWARP_PAGE_GONE : MWARP_PAGE_EXCHANGED));
    CHECK(files.at_a[2 * WORDS] == 0 && is_page(files.at_b + 2 * WORDS, 'b', 2) &&
          is_page(files.at_b, 'a', 0));
    REFUSED(exchange_table(table, &files, FRAME + 2, 2, 1, MWARP_X_WHOLE, status), EBUSY);
    REFUSED(exchange_table(table, &files, FRAME + 2, 2, 1, MWARP_X_CONTENTS, status), EIO);

    CHECK(fill_table(table, FRAME + 20, 20, 1) == 4 && fill_table(table, FRAME + 40, 20, 1) == 5);
    CHECK(exchange_table(table, &files, FRAME + 20, 20, 1, 0, status) == 0 && status[0] == MWARP_PAGE_HELD);
}

static void huge_frames(void)
{
    struct files files = make_huge_files(1024, true, true);
    int table = make_table(&files);
    uint8_t status[1024];

    /* Without huge pages it goes page by page: no other outcome is expected of it. */
    CHECK(fill_table(table, FRAME, 0, 1024) == 1024);
    CHECK(exchange_table(table, &files, FRAME, 512, 512, MWARP_X_WHOLE, status) == 512, "errno %d", errno);
    check_files(&files, 0, 512, 512);
    CHECK(exchange_table(table, &files, FRAME + 512, 0, 512, MWARP_X_WHOLE, status) == 512, "errno %d",
          errno);
    for (size_t page = 0; page < 512; page++) {
        CHECK(is_page(files.at_a + page * WORDS, 'b', page + 512));
        CHECK(is_page(files.at_a + (page + 512) * WORDS, 'b', page));
    }
}

static void fill_and_wait(void *argument)
{
    struct files *files = argument;
    int table = make_table(files);

    CHECK(fill_table(table, FRAME, 0, PAGES) == PAGES);
    files->at_a[0] = 0;
    for (;;) pause();
}

/* Its owner is killed: what it held is free. A descriptor that another process has keeps it alive. */
static void owner_killed(void)
{
    struct files files = make_files(PAGES);
    uint8_t status[PAGES];
    int table = make_table(&files);
    pid_t pid = start(fill_and_wait, &files);

    while (__atomic_load_n(&files.at_a[0], __ATOMIC_RELAXED) != 0) usleep(1000);
    fill(files.at_a, 'a', 0);
    CHECK(try_exchange(&files, 0, 0, PAGES, 0, status) == 0);
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    CHECK(try_exchange(&files, 0, 0, PAGES, MWARP_X_WHOLE, status) == PAGES);
    check_files(&files, 0, 0, PAGES);

    CHECK(fill_table(table, FRAME, 0, PAGES) == PAGES);
    pid = fork();
    if (pid == 0) {
        close(files.a);
        CHECK(exchange_table(table, &files, FRAME, 0, PAGES, MWARP_X_WHOLE, status) == PAGES);
        _exit(0);
    }
    close(table);
    finish(pid);
    check_files(&files, 0, 0, 0);
}

const struct test table_tests[] = {
    {"frames of a table change places, each once", frames},
    {"a table holds its pages until it is closed", holds},
    {"a table takes in all or nothing", fills},
    {"a page that left the file is not exchanged by its frame", gone},
    {"huge pages of a table change places whole", huge_frames},
    {"a table ends with its last owner, however that ended", owner_killed},
    {NULL, NULL},
};
