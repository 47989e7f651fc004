/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands for a VMM in tests: 16 pages of a shared memory file, each filled with the byte given, and commands
 * on standard input. "punch OFFSET BYTES" gives a part of the file back as QEMU's balloon does; each command
 * is answered with its result. Prints the address of the memory first.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (16 * 4096ul)

int main(int argc, char **argv)
{
    int fd = memfd_create("memory-holder", 0);
    char line[128];

    if (argc != 2 || fd < 0 || ftruncate(fd, BYTES) < 0) return 1;
    /* The file begins one page before what is mapped: an offset is not a distance from the first byte. */
    char *memory = mmap(NULL, BYTES - 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
    if (memory == MAP_FAILED) return 1;
    memset(memory, atoi(argv[1]), BYTES - 4096);
    printf("%lx\n", (unsigned long)memory);
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        unsigned long offset, bytes;

        if (sscanf(line, "punch %lu %lu", &offset, &bytes) != 2) return 1;
        int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        printf("%d\n", fallocate(fd, mode, (off_t)offset, (off_t)bytes) < 0 ? errno : 0);
        fflush(stdout);
    }
    return 0;
}
