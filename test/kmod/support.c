/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

_Noreturn void fail(const char *file, int line, const char *what, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    fprintf(stderr, "%s:%d: %s:", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line, what);
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    _exit(1);
}

_Noreturn void skip(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    _exit(4);
}

void fill(uint64_t *page, char file, size_t index)
{
    for (size_t word = 0; word < WORDS; word++) page[word] = (uint64_t)file << 56 | index << 16 | word;
}

bool is_page(const uint64_t *page, char file, size_t index)
{
    for (size_t word = 0; word < WORDS; word++)
        if (page[word] != ((uint64_t)file << 56 | index << 16 | word)) return false;
    return true;
}

static uint64_t *map_file(int fd, size_t pages, bool huge)
{
    /* With room to put it at a boundary of huge pages. */
    char *room = mmap(NULL, pages * PAGE + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = (char *)(((uintptr_t)room + HUGE - 1) & ~(HUGE - 1));

    CHECK(room != MAP_FAILED);
    CHECK(mmap(at, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == at);
    if (huge) CHECK(madvise(at, pages * PAGE, MADV_HUGEPAGE) == 0);
    return (uint64_t *)at;
}

struct files make_huge_files(size_t pages, bool huge_a, bool huge_b)
{
    struct files files = {.device = open("/dev/mwarp", O_RDWR | O_CLOEXEC), .pages = pages};

    CHECK(files.device >= 0, "errno %d", errno);
    if (huge_a || huge_b) {
        write_file("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "advise");
        write_file("/proc/sys/vm/compact_memory", "1");
    }
    files.a = memfd_create("a", MFD_ALLOW_SEALING);
    files.b = memfd_create("b", MFD_ALLOW_SEALING);
    CHECK(files.a >= 0 && files.b >= 0);
    CHECK(ftruncate(files.a, (off_t)(pages * PAGE)) == 0 && ftruncate(files.b, (off_t)(pages * PAGE)) == 0);
    files.at_a = map_file(files.a, pages, huge_a);
    files.at_b = map_file(files.b, pages, huge_b);
    for (size_t page = 0; page < pages; page++) {
        fill(files.at_a + page * WORDS, 'a', page);
        fill(files.at_b + page * WORDS, 'b', page);
    }
    return files;
}

struct files make_files(size_t pages)
{
    return make_huge_files(pages, false, false);
}

void check_files(const struct files *files, size_t a, size_t b, size_t pages)
{
    for (size_t page = 0; page < files->pages; page++) {
        bool of_a = page >= a && page < a + pages, of_b = page >= b && page < b + pages;

        CHECK(is_page(files->at_a + page * WORDS, of_a ? 'b' : 'a', of_a ? b + page - a : page),
              "page %zu of a", page);
        CHECK(is_page(files->at_b + page * WORDS, of_b ? 'a' : 'b', of_b ? a + page - b : page),
              "page %zu of b", page);
    }
}

long smaps(const void *at, const char *name)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    size_t length = strlen(name);
    char line[256];
    bool here = false;
    long value = -1;

    CHECK(file != NULL);
    while (value < 0 && fgets(line, sizeof line, file)) {
        unsigned long start, end;

        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            here = start <= (uintptr_t)at && (uintptr_t)at < end;
        else if (here && strncmp(line, name, length) == 0 && line[length] == ':')
            value = strtol(line + length + 1, NULL, 10);
    }
    fclose(file);
    return value;
}

size_t swap_out(uint64_t *at, size_t pages)
{
    long swapped = 0;

    for (int round = 0; round < 10 && swapped < (long)pages; round++) {
        CHECK(madvise(at, pages * PAGE, MADV_PAGEOUT) == 0);
        swapped = smaps(at, "Swap") * 1024 / (long)PAGE;
        usleep(10000);
    }
    return (size_t)swapped;
}

struct mwarp_exchange request(const struct files *files, const struct mwarp_extent *extents, uint32_t count,
                              uint8_t *status, uint32_t flags)
{
    return (struct mwarp_exchange){.flags = flags,
                                   .a = files->a,
                                   .b = files->b,
                                   .count = count,
                                   .extents = (uintptr_t)extents,
                                   .status = (uintptr_t)status};
}

long try_exchange(const struct files *files, size_t a, size_t b, size_t pages, uint32_t flags,
                  uint8_t *status)
{
    struct mwarp_extent extent = {.a = a, .b = b, .pages = pages};
    struct mwarp_exchange call = request(files, &extent, 1, status, flags);

    return ioctl(files->device, MWARP_IOC_EXCHANGE, &call);
}

void exchange(const struct files *files, size_t a, size_t b, size_t pages)
{
    uint8_t *status = calloc(1, pages);
    long done = try_exchange(files, a, b, pages, 0, status);

    CHECK(done == (long)pages, "%ld of %zu, errno %d", done, pages, errno);
    for (size_t page = 0; page < pages; page++)
        CHECK(status[page] == MWARP_PAGE_EXCHANGED, "page %zu: %u", page, status[page]);
    free(status);
}

pid_t start(void (*work)(void *), void *argument)
{
    pid_t parent = getpid(), pid = fork();

    CHECK(pid >= 0);
    if (pid > 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    work(argument);
    _exit(0);
}

void finish(pid_t pid)
{
    int status = 0;

    for (int tenth = 0; tenth < 600 + 10 * race_seconds; tenth++) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
            return;
        }
        usleep(100000);
    }
    CHECK(false, "process %d does not end", pid);
}

void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s: errno %d", path, errno);
    close(fd);
}

long meminfo(const char *name)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    long value = -1;

    CHECK(file != NULL);
    while (value < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            value = strtol(line + strlen(name) + 1, NULL, 10);
    fclose(file);
    return value;
}
