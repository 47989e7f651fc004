/*
 * mwarp-guest patch DIRECTORY: takes from stdin what blocks.c sends of files that are there from a first
 * pass, and makes them what they are on the other side: contents, holes, size and time. All else of them is
 * as it was.
 */
#include "layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool take(void *bytes, size_t count)
{
    return fread(bytes, 1, count, stdin) == count;
}

/* A hole first, then the pages that hold data: what was data and is a hole by now becomes one. */
static int take_block(int fd, uint64_t size)
{
    static struct block block;
    struct block_head head;

    if (!take(&head, sizeof head) || head.at % BLOCK_BYTES != 0 || head.at >= size || head.bytes == 0 ||
        head.bytes > BLOCK_BYTES || head.pages >> BLOCK_PAGES != 0)
        return -EPROTO;
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)head.at, BLOCK_BYTES) < 0)
        return -errno;
    block.bytes = head.bytes;
    for (unsigned page = 0; page < BLOCK_PAGES; page++) {
        uint32_t bytes;
        ssize_t written;

        if (!(head.pages & (1U << page))) continue;
        if (page * (BLOCK_BYTES / BLOCK_PAGES) >= head.bytes) return -EPROTO;
        bytes = page_bytes(&block, page);
        if (!take(block.data[page], bytes)) return -EPROTO;
        written = pwrite(fd, block.data[page], bytes, (off_t)(head.at + page * (BLOCK_BYTES / BLOCK_PAGES)));
        if (written != (ssize_t)bytes) return written < 0 ? -errno : -ENOSPC;
    }
    return 0;
}

static int take_patch(int base, const struct patch_head *head)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                {.tv_sec = (time_t)head->seconds, .tv_nsec = (long)head->nanoseconds}};
    char path[LONGEST_PATH + 1];
    struct stat status;
    int fd, error = 0;

    if (head->path_bytes > LONGEST_PATH || !take(path, head->path_bytes)) return -EPROTO;
    path[head->path_bytes] = '\0';
    fd = open_plain_below(base, path, O_RDWR, &status);
    if (fd < 0) return fd;
    if (ftruncate(fd, (off_t)head->size) < 0) error = -errno;
    for (uint64_t i = 0; error == 0 && i < head->blocks; i++) error = take_block(fd, head->size);
    if (error == 0 && futimens(fd, times) < 0) error = -errno;
    close(fd);
    if (error < 0) fprintf(stderr, "%s: ", path);
    return error;
}

int patch_main(int argc, char **argv)
{
    struct patch_head head;
    int base, error = 0;

    if (argc != 1) return 2;
    base = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base < 0) return 1;
    while (error == 0 && take(&head, sizeof head)) error = take_patch(base, &head);
    if (error == 0) return 0;
    errno = -error;
    perror("patch");
    return 1;
}
