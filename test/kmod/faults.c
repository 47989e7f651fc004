/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every allocation of a call fails once: it ends with ENOMEM and has changed nothing, or does without. Only
 * for a kernel with fault injection (CONFIG_FAILSLAB), which Debian's are not: run when it is asked for by
 * name.
 */
#define _GNU_SOURCE
#include "kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

enum { PAGES = 300, MOST = 2000 };

static int fail_nth = -1;

static void begin(void)
{
    mount("debug", "/sys/kernel/debug", "debugfs", 0, NULL);
    if (access("/sys/kernel/debug/failslab", F_OK) != 0) skip("this kernel injects no faults");
    write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
    write_file("/sys/kernel/debug/failslab/verbose", "0");
    fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
    CHECK(fail_nth >= 0, "errno %d", errno);
}

/* The call's result, with its allocation number `nth` failing; *failed says whether there were so many. */
static long with_fault(int nth, int fd, unsigned long command, void *argument, bool *failed)
{
    char text[16] = "";

    snprintf(text, sizeof text, "%d", nth);
    CHECK(pwrite(fail_nth, text, strlen(text), 0) > 0);
    long result = ioctl(fd, command, argument);
    int error = errno;
    CHECK(pread(fail_nth, text, sizeof text - 1, 0) > 0);
    *failed = atoi(text) == 0;
    CHECK(pwrite(fail_nth, "0", 1, 0) > 0);
    errno = error;
    return result;
}

static void exchanges(void)
{
    struct files files = make_files(PAGES);
    struct mwarp_extent extents[] = {{.a = 0, .b = 100, .pages = 200}, {.a = 200, .b = 0, .pages = 100}};
    static uint8_t status[PAGES];
    static const uint32_t flags[] = {0, MWARP_X_WHOLE, MWARP_X_CONTENTS};
    int faults = 0, refused = 0;
    bool failed = false;

    begin();
    for (int kind = 0; kind < 3; kind++) {
        failed = true;
        for (int nth = 1; failed && nth < MOST; nth++) {
            struct mwarp_exchange call = request(&files, extents, 2, status, flags[kind]);
            long done = with_fault(nth, files.device, MWARP_IOC_EXCHANGE, &call, &failed);

            faults += failed;
            refused += done < 0;
            if (done < 0) {
                CHECK(errno == ENOMEM || errno == EFAULT, "allocation %d: errno %d", nth, errno);
            } else {
                CHECK(done == PAGES, "allocation %d: %ld", nth, done);
                CHECK(is_page(files.at_a, 'b', 100) && is_page(files.at_b, 'a', 200), "allocation %d", nth);
                exchange(&files, 0, 100, 200);
                exchange(&files, 200, 0, 100);
            }
            check_files(&files, 0, 0, 0);
        }
    }
    CHECK(!failed && faults > 6 && refused > 6, "%d faults, %d refused", faults, refused);
}

static void tables(void)
{
    struct files files = make_files(PAGES);
    struct mwarp_table_create create = {.file = files.a};
    int table = ioctl(files.device, MWARP_IOC_TABLE_CREATE, &create), faults = 0;
    /* Far apart: each needs nodes of its own in the table. */
    struct mwarp_extent extents[] = {{.a = 5, .b = 0, .pages = 100},
                                     {.a = 1ul << 40, .b = 100, .pages = 100},
                                     {.a = 1ul << 50, .b = 200, .pages = 100}};
    struct mwarp_table_fill fill = {.extents = (uintptr_t)extents, .count = 3};
    static uint8_t status[PAGES];
    bool failed = true;

    begin();
    CHECK(table >= 0);
    for (int nth = 1; failed && nth < MOST; nth++) {
        long filled = with_fault(nth, table, MWARP_IOC_TABLE_FILL, &fill, &failed);

        faults += failed;
        if (filled < 0) {
            CHECK(errno == ENOMEM, "allocation %d: errno %d", nth, errno);
            /* Nothing is held. */
            CHECK(try_exchange(&files, 0, 0, PAGES, MWARP_X_WHOLE, status) == PAGES,
                  "allocation %d: errno %d", nth, errno);
            CHECK(try_exchange(&files, 0, 0, PAGES, MWARP_X_WHOLE, status) == PAGES);
            continue;
        }
        CHECK(filled == PAGES, "allocation %d: %ld", nth, filled);
        close(table);
        table = ioctl(files.device, MWARP_IOC_TABLE_CREATE, &create);
    }
    CHECK(!failed && faults > 6, "%d faults", faults);
    for (int nth = 1, made = -1; made < 0 && nth < MOST; nth++) {
        made = (int)with_fault(nth, files.device, MWARP_IOC_TABLE_CREATE, &create, &failed);
        if (made < 0)
            CHECK(errno == ENOMEM, "allocation %d: errno %d", nth, errno);
        else
            CHECK(!failed || close(made) == 0);
    }
    check_files(&files, 0, 0, 0);
}

const struct test fault_tests[] = {
    {"no allocation that fails leaves half an exchange", exchanges},
    {"no allocation that fails leaves a page held by a table", tables},
    {NULL, NULL},
};
