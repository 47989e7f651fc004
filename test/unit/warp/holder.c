/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands for a VMM in unit tests: PAGES SEED makes a memory file, maps it and fills each page with (seed,
 * page number); prints the address, then obeys lines: `open PATH`, `close HANDLE`, `map HVA BYTES HANDLE
 * OFFSET`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void obey(const char *line)
{
    unsigned long long address, bytes, offset;
    char path[512];
    int handle;

    if (sscanf(line, "open %511s", path) == 1) {
        struct stat st;
        int fd = open(path, O_RDWR | O_CLOEXEC);

        if (fd < 0 || fstat(fd, &st) < 0)
            printf("%d\n", -errno);
        else
            printf("%d %u %u %lu %ld\n", fd, major(st.st_dev), minor(st.st_dev), st.st_ino, (long)st.st_size);
    } else if (sscanf(line, "close %d", &handle) == 1) {
        printf("%d\n", close(handle));
    } else if (sscanf(line, "map %llu %llu %d %llu", &address, &bytes, &handle, &offset) == 4) {
        /* SAFETY: the test names ranges inside the memory made in main. */
        void *at = mmap((void *)(uintptr_t)address, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                        handle, (off_t)offset);

        printf("%s\n", at == MAP_FAILED ? strerror(errno) : "ok");
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    size_t pages = strtoul(argv[1], NULL, 10);
    uint64_t seed = strtoul(argv[2], NULL, 10);
    int fd = memfd_create("holder", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)(pages * 4096)) < 0) return 1;
    uint64_t *words = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (words == MAP_FAILED) return 1;
    for (size_t i = 0; i < pages * 512; i++) words[i] = seed << 32 | i / 512;

    char line[1024];
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%lx\n", (unsigned long)words);
    while (fgets(line, sizeof(line), stdin) != NULL) obey(line);
    return 0;
}
