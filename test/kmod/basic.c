/* SPDX-License-Identifier: Apache-2.0 */
/* What an exchange does, seen from every side that has a view of the files. */
#define _GNU_SOURCE
#include "kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void info(void)
{
    struct files files = make_files(1);
    struct mwarp_info info;

    CHECK(ioctl(files.device, MWARP_IOC_INFO, &info) == 0);
    CHECK(info.version == MWARP_VERSION && info.page_bytes == PAGE && info.max_pages == MWARP_MAX_PAGES);
    CHECK(info.flags == MWARP_X_FLAGS && info.reserved == 0);
}

/* Both files have as many blocks as before, nothing else is touched, and again is back. */
static void runs(void)
{
    struct files files = make_files(600);
    struct stat before, after;

    CHECK(fstat(files.a, &before) == 0);
    check_files(&files, 0, 0, 0);
    exchange(&files, 7, 300, 1);
    check_files(&files, 7, 300, 1);
    exchange(&files, 7, 300, 1);
    exchange(&files, 0, 77, 520);
    check_files(&files, 0, 77, 520);
    CHECK(fstat(files.a, &after) == 0);
    CHECK(before.st_blocks == after.st_blocks && before.st_size == after.st_size);
    exchange(&files, 0, 77, 520);
    check_files(&files, 0, 0, 0);
}

/* Every page for itself, in no order of either side; the status is by the order of the call. */
static void scattered(void)
{
    enum { PAGES = 1009 };
    struct files files = make_files(PAGES);
    struct mwarp_extent extents[PAGES];
    uint8_t *status = calloc(1, PAGES);
    struct mwarp_exchange call = request(&files, extents, PAGES, status, MWARP_X_WHOLE);

    for (size_t i = 0; i < PAGES; i++)
        extents[i] = (struct mwarp_extent){.a = i * 397 % PAGES, .b = i * 101 % PAGES, .pages = 1};
    for (int round = 0; round < 2; round++) {
        CHECK(ioctl(files.device, MWARP_IOC_EXCHANGE, &call) == PAGES, "errno %d", errno);
        for (size_t i = 0; i < PAGES; i++) {
            CHECK(status[i] == MWARP_PAGE_EXCHANGED);
            CHECK(is_page(files.at_a + extents[i].a * WORDS, round ? 'a' : 'b',
                          round ? extents[i].a : extents[i].b));
            CHECK(is_page(files.at_b + extents[i].b * WORDS, round ? 'b' : 'a',
                          round ? extents[i].b : extents[i].a));
        }
    }
}

/* Of pages that are in no page table; holes are zeros, and become the other's. */
static void holes_and_unmapped(void)
{
    struct files files = make_files(64);
    static const uint64_t zeros[WORDS];

    CHECK(fallocate(files.a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 16 * PAGE, 16 * PAGE) == 0);
    CHECK(munmap(files.at_b, 64 * PAGE) == 0);
    exchange(&files, 0, 0, 32);
    files.at_b = mmap(NULL, 64 * PAGE, PROT_READ, MAP_SHARED, files.b, 0);
    for (size_t page = 0; page < 32; page++) {
        CHECK(is_page(files.at_a + page * WORDS, 'b', page));
        if (page < 16)
            CHECK(is_page(files.at_b + page * WORDS, 'a', page));
        else
            CHECK(memcmp(files.at_b + page * WORDS, zeros, PAGE) == 0);
    }
}

static void by_read_and_write(void)
{
    struct files files = make_files(8);
    uint64_t page[WORDS];

    exchange(&files, 2, 5, 1);
    CHECK(pread(files.a, page, PAGE, 2 * PAGE) == (ssize_t)PAGE && is_page(page, 'b', 5));
    CHECK(pread(files.b, page, PAGE, 5 * PAGE) == (ssize_t)PAGE && is_page(page, 'a', 2));
    fill(page, 'x', 9);
    CHECK(pwrite(files.a, page, PAGE, 2 * PAGE) == (ssize_t)PAGE);
    CHECK(is_page(files.at_a + 2 * WORDS, 'x', 9));
    exchange(&files, 2, 5, 1);
    CHECK(is_page(files.at_a + 2 * WORDS, 'a', 2) && is_page(files.at_b + 5 * WORDS, 'x', 9));
}

/* A write after the exchange is a write to the file it was made through. */
static void writes_follow_the_file(void)
{
    struct files files = make_files(4);

    exchange(&files, 1, 2, 1);
    files.at_a[WORDS] = 1111;
    files.at_b[2 * WORDS] = 2222;
    exchange(&files, 1, 2, 1);
    CHECK(files.at_a[WORDS] == 2222 && files.at_b[2 * WORDS] == 1111);
}

/* A private copy stays; what of a private mapping is still the file's goes with the file. */
static void private_mapping(void)
{
    struct files files = make_files(4);
    uint64_t *mine = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, files.a, 0);

    CHECK(is_page(mine, 'a', 0));
    fill(mine + WORDS, 'p', 1);
    exchange(&files, 0, 0, 2);
    CHECK(is_page(mine, 'b', 0) && is_page(mine + WORDS, 'p', 1) && is_page(mine + 2 * WORDS, 'a', 2));
    check_files(&files, 0, 0, 2);
}

static void look_in_child(void *argument)
{
    struct files *files = argument;

    exchange(files, 3, 30, 8);
    check_files(files, 3, 30, 8);
}

/* A child that has the files mapped since fork exchanges, and so sees its parent's mappings change. */
static void forked(void)
{
    struct files files = make_files(64);

    finish(start(look_in_child, &files));
    check_files(&files, 3, 30, 8);
    exchange(&files, 3, 30, 8);
    check_files(&files, 0, 0, 0);
}

static void locked_memory(void)
{
    struct files files = make_files(64);
    long before = meminfo("Mlocked");

    CHECK(mlock(files.at_a, 64 * PAGE) == 0);
    CHECK(mlock(files.at_b, 32 * PAGE) == 0);
    exchange(&files, 0, 0, 64);
    check_files(&files, 0, 0, 64);
    exchange(&files, 0, 0, 64);
    check_files(&files, 0, 0, 0);
    CHECK(munlock(files.at_a, 64 * PAGE) == 0 && munlock(files.at_b, 64 * PAGE) == 0);
    munmap(files.at_a, 64 * PAGE);
    munmap(files.at_b, 64 * PAGE);
    /* Counted in batches of each CPU. */
    CHECK(meminfo("Mlocked") - before < 256, "%ld kB more are locked", meminfo("Mlocked") - before);
}

static void swapped_pages(void)
{
    struct files files = make_files(256);

    for (int round = 0; round < 3; round++) {
        size_t of_a = swap_out(files.at_a, 128), of_b = swap_out(files.at_b + 64 * WORDS, 128);

        CHECK(of_a > 32 && of_b > 32, "%zu and %zu pages are in swap", of_a, of_b);
        exchange(&files, 0, 0, 256);
        check_files(&files, 0, 0, 256);
        exchange(&files, 0, 0, 256);
        /* What came by an exchange can be swapped out once it is mapped again, and is there again. */
        check_files(&files, 0, 0, 0);
        CHECK(swap_out(files.at_a, 256) > 32);
        check_files(&files, 0, 0, 0);
    }
}

/* The buffer of the status may begin anywhere, and nothing around it is written to. */
static void status_buffer(void)
{
    struct files files = make_files(6000);
    uint8_t *room = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *status = room + 1234;

    memset(room, 0xee, 4 * PAGE);
    CHECK(try_exchange(&files, 0, 0, 6000, 0, status) == 6000);
    for (size_t i = 0; i < 4 * PAGE; i++)
        CHECK(room[i] == (i >= 1234 && i < 7234 ? MWARP_PAGE_EXCHANGED : 0xee), "byte %zu is %u", i, room[i]);
    /* In a page that is to be exchanged itself: that one is held, by the call. */
    CHECK(try_exchange(&files, 0, 0, 16, 0, (uint8_t *)(files.at_a + 3 * WORDS)) == 15);
    status = (uint8_t *)(files.at_a + 3 * WORDS);
    for (size_t page = 0; page < 16; page++)
        CHECK(status[page] == (page == 3 ? MWARP_PAGE_HELD : MWARP_PAGE_EXCHANGED));
}

/* In a control group of its own: makes and keeps the file that its parent sees under /proc. */
static void own_memory(void *argument)
{
    const char *group = argument;
    char path[64], pid[16];

    snprintf(path, sizeof path, "/sys/fs/cgroup/%s/cgroup.procs", group);
    snprintf(pid, sizeof pid, "%d", getpid());
    write_file(path, pid);
    int fd = memfd_create(group, 0);
    CHECK(dup2(fd, 100) == 100 && ftruncate(100, 2048 * PAGE) == 0);
    uint64_t *at = mmap(NULL, 2048 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 100, 0);
    for (size_t page = 0; page < 2048; page++) fill(at + page * WORDS, *group, page);
    munmap(at, 2048 * PAGE);
    close(fd);
    raise(SIGSTOP);
}

static long shmem_of(const char *group)
{
    char path[64], line[128];
    long bytes = -1;

    snprintf(path, sizeof path, "/sys/fs/cgroup/%s/memory.stat", group);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    while (bytes < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, "shmem ", 6) == 0) bytes = atol(line + 6);
    fclose(file);
    return bytes / (long)PAGE;
}

static int memory_of(pid_t pid)
{
    char path[64];
    int status;

    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    snprintf(path, sizeof path, "/proc/%d/fd/100", pid);
    return open(path, O_RDWR | O_CLOEXEC);
}

/* Counted in batches of each CPU. */
static bool is_about(long pages, long expected)
{
    return labs(pages - expected) <= 256;
}

/*
 * Of two owners in two control groups either is charged for as much as before. A page is given back to the
 * group that it was charged to, not to that of the file that it is in.
 */
static void charges(void)
{
    struct files files = make_files(1);
    uint8_t *status = calloc(1, 2048);
    pid_t a, b;

    CHECK((mkdir("/sys/fs/cgroup/a", 0755) == 0 || errno == EEXIST) &&
          (mkdir("/sys/fs/cgroup/b", 0755) == 0 || errno == EEXIST));
    a = start(own_memory, "a");
    b = start(own_memory, "b");
    files.a = memory_of(a);
    files.b = memory_of(b);
    CHECK(is_about(shmem_of("a"), 2048) && is_about(shmem_of("b"), 2048), "%ld and %ld", shmem_of("a"),
          shmem_of("b"));
    CHECK(try_exchange(&files, 0, 0, 1536, MWARP_X_WHOLE, status) == 1536, "errno %d", errno);
    CHECK(is_about(shmem_of("a"), 2048) && is_about(shmem_of("b"), 2048), "%ld and %ld", shmem_of("a"),
          shmem_of("b"));
    close(files.a);
    CHECK(kill(a, SIGKILL) == 0 && waitpid(a, NULL, 0) == a);
    CHECK(is_about(shmem_of("a"), 1536) && is_about(shmem_of("b"), 512), "%ld and %ld", shmem_of("a"),
          shmem_of("b"));
    close(files.b);
    CHECK(kill(b, SIGKILL) == 0 && waitpid(b, NULL, 0) == b);
    CHECK(is_about(shmem_of("a"), 0) && is_about(shmem_of("b"), 0), "%ld and %ld", shmem_of("a"),
          shmem_of("b"));
}

const struct test basic_tests[] = {
    {"the module says its version", info},
    {"runs of pages change places, again takes it back, and no block is gained or lost", runs},
    {"scattered pages change places in any order", scattered},
    {"holes and pages that nobody has mapped change places", holes_and_unmapped},
    {"read and write see the exchange", by_read_and_write},
    {"what is written afterwards belongs to the file it was written to", writes_follow_the_file},
    {"private copies of pages stay", private_mapping},
    {"a forked child and its parent see the exchange", forked},
    {"locked memory changes places", locked_memory},
    {"pages in swap change places, and can be swapped out afterwards", swapped_pages},
    {"the status is written to its bytes alone", status_buffer},
    {"charges of control groups stay with the pages", charges},
    {NULL, NULL},
};
