/*
 * mwarp-guest digests DIRECTORY: what files hold, in short, on the side that has got them in a first pass.
 * Names on stdin, relative to DIRECTORY, each with its zero byte; on stdout for each a struct digest_head and
 * as many digests as it says. The other side compares them with what it has in the end (blocks.c), and sends
 * the blocks that differ (patch.c).
 *
 * A digest tells two blocks apart that were not made to look alike: for whoever makes files that do the
 * damage is in his own.
 */
#include "layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PAGE 4096U

/* Sets the bits of the pages that [from, to) of the block has a part of. */
static void mark(struct block *block, uint64_t from, uint64_t to)
{
    for (uint64_t page = from / PAGE; page * PAGE < to; page++) block->pages |= 1U << page;
}

static int find_data(int fd, uint64_t at, struct block *block)
{
    uint64_t end = at + block->bytes;

    for (uint64_t next = at; next < end;) {
        off_t data = lseek(fd, (off_t)next, SEEK_DATA), hole;

        /* Nothing but a hole up to the end of the file. */
        if (data < 0 && errno == ENXIO) return 0;
        if (data < 0) return -errno;
        if ((uint64_t)data >= end) return 0;
        hole = lseek(fd, data, SEEK_HOLE);
        if (hole < 0) return -errno;
        next = (uint64_t)hole < end ? (uint64_t)hole : end;
        mark(block, (uint64_t)data - at, next - at);
    }
    return 0;
}

uint32_t page_bytes(const struct block *block, unsigned page)
{
    uint32_t left = block->bytes - page * PAGE;

    return left < PAGE ? left : PAGE;
}

int read_block(int fd, uint64_t at, uint64_t size, struct block *block)
{
    int error;

    block->bytes = size - at < BLOCK_BYTES ? (uint32_t)(size - at) : BLOCK_BYTES;
    block->pages = 0;
    error = find_data(fd, at, block);
    for (unsigned page = 0; error == 0 && page < BLOCK_PAGES; page++) {
        uint32_t bytes;
        ssize_t got;

        if (!(block->pages & (1U << page))) continue;
        bytes = page_bytes(block, page);
        got = pread(fd, block->data[page], bytes, (off_t)(at + page * PAGE));
        if (got < 0) return -errno;
        /* It has become shorter under our hands. */
        if (got != (ssize_t)bytes) return -ESTALE;
        /* Of the last page of a file, which is digested by whole words. */
        memset(block->data[page] + bytes, 0, PAGE - bytes);
    }
    return error;
}

static uint64_t mixed(uint64_t sum, uint64_t word, uint64_t factor)
{
    sum = (sum ^ word) * factor;
    return sum << 29 | sum >> 35;
}

struct digest digest_of(const struct block *block)
{
    uint64_t a = 0x9e3779b97f4a7c15ULL ^ block->pages, b = 0xbf58476d1ce4e5b9ULL ^ block->bytes;

    for (unsigned page = 0; page < BLOCK_PAGES; page++) {
        if (!(block->pages & (1U << page))) continue;
        for (size_t at = 0; at < PAGE; at += sizeof(uint64_t)) {
            uint64_t word;

            memcpy(&word, block->data[page] + at, sizeof word);
            a = mixed(a, word, 0x94d049bb133111ebULL);
            b = mixed(b, ~word, 0xd6e8feb86659fd93ULL);
        }
    }
    return (struct digest){{mixed(a, b, 0x94d049bb133111ebULL), mixed(b, a, 0xd6e8feb86659fd93ULL)}};
}

int open_plain(int directory, const char *name, int flags, struct stat *status)
{
    int fd = openat(directory, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME);

    if (fd < 0) return -errno;
    /* Who writes to a file takes its capabilities away, so one with extended attributes goes as a whole. */
    if (fstat(fd, status) == 0 && S_ISREG(status->st_mode) && status->st_nlink == 1 &&
        flistxattr(fd, NULL, 0) == 0)
        return fd;
    close(fd);
    return -EINVAL;
}

int open_plain_below(int base, char *path, int flags, struct stat *status)
{
    char *slash = strrchr(path, '/');
    int directory, fd;

    if (!slash) return -EINVAL;
    *slash = '\0';
    directory = open_below(base, path);
    *slash = '/';
    if (directory < 0) return directory;
    fd = open_plain(directory, slash + 1, flags, status);
    close(directory);
    return fd;
}

static int tell_of(int base, char *path)
{
    static struct block block;
    struct digest_head head = {0};
    struct stat status;
    int fd = open_plain_below(base, path, O_RDONLY, &status), error;

    if (fd >= 0)
        head = (struct digest_head){.size = (uint64_t)status.st_size,
                                    .digests = block_count((uint64_t)status.st_size),
                                    .mode = status.st_mode,
                                    .user = status.st_uid,
                                    .group = status.st_gid};
    error = write_all(STDOUT_FILENO, &head, sizeof head);
    for (uint64_t i = 0; error == 0 && i < head.digests; i++) {
        struct digest digest;

        error = read_block(fd, i * BLOCK_BYTES, head.size, &block);
        digest = digest_of(&block);
        if (error == 0) error = write_all(STDOUT_FILENO, &digest, sizeof digest);
    }
    if (fd >= 0) close(fd);
    return error;
}

int digests_main(int argc, char **argv)
{
    char *path = NULL;
    size_t room = 0;
    int base, error = 0;

    if (argc != 1) return 2;
    base = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base < 0) return 1;
    while (error == 0 && getdelim(&path, &room, '\0', stdin) > 0) error = tell_of(base, path);
    free(path);
    return error < 0;
}
