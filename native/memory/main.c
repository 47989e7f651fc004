/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands for a VMM where the host's costs are measured: a process with a memory file, and the library preloaded.
 *
 *   mwarp-memory KIND PAGES      KIND is 4k, thp or hugetlb
 *
 * Fills the memory, prints its address in hex, then answers lines: `touch` writes a byte of every page and
 * prints the nanoseconds it took. Ends with its stdin. Exit status 3: this host has no such memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES 4096ul
#define HUGE_BYTES (2048ul * 1024)
#define MAX_PAGES  (1ul << 22)
#define NO_MEMORY  3

/* A file on a tmpfs that is mounted nowhere and goes with the file: `huge` is its mount option. */
static int open_on_tmpfs(const char *huge)
{
    int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    int mount = -1, fd = -1;

    if (fs < 0) return -1;
    if (fsconfig(fs, FSCONFIG_SET_STRING, "huge", huge, 0) == 0 &&
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        mount = fsmount(fs, FSMOUNT_CLOEXEC, 0);
    if (mount >= 0) {
        fd = openat(mount, "memory", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        close(mount);
    }
    close(fs);
    return fd;
}

static int open_memory(const char *kind)
{
    if (strcmp(kind, "4k") == 0) return open_on_tmpfs("never");
    if (strcmp(kind, "thp") == 0) return open_on_tmpfs("always");
    if (strcmp(kind, "hugetlb") == 0)
        return memfd_create("mwarp-memory", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
    errno = EINVAL;
    return -1;
}

/* Aligned to 2 MiB, as VMMs align theirs. */
static char *map_memory(int fd, size_t bytes)
{
    size_t reserved = bytes + HUGE_BYTES;
    char *at = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED) return NULL;
    char *aligned = (char *)(((uintptr_t)at + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
    /* SAFETY: inside the reservation made above, which nothing else uses. */
    void *mapped = mmap(aligned, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    return mapped == MAP_FAILED ? NULL : mapped;
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t touch(volatile char *at, size_t bytes)
{
    uint64_t start = now_ns();

    for (size_t i = 0; i < bytes; i += PAGE_BYTES) at[i]++;
    return now_ns() - start;
}

int main(int argc, char **argv)
{
    size_t pages = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    size_t bytes = pages * PAGE_BYTES;
    char line[64];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (pages == 0 || pages > MAX_PAGES || bytes % HUGE_BYTES != 0) {
        fprintf(stderr, "usage: mwarp-memory 4k|thp|hugetlb PAGES (whole 2 MiB)\n");
        return 2;
    }
    int fd = open_memory(argv[1]);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0) return perror("mwarp-memory: file"), NO_MEMORY;
    char *at = map_memory(fd, bytes);
    /* Every word of all such processes is another one, so that a misplaced page shows. */
    uint64_t mine = (uint64_t)getpid() << 40;
    /* Without huge pages in reserve mmap fails, and writing never does. */
    if (at == NULL) return perror("mwarp-memory: mmap"), NO_MEMORY;
    for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) *(uint64_t *)(void *)(at + i) = mine | i;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%lx\n", (unsigned long)at);
    while (fgets(line, sizeof(line), stdin) != NULL)
        if (strcmp(line, "touch\n") == 0) printf("%lu\n", (unsigned long)touch(at, bytes));
    return 0;
}
