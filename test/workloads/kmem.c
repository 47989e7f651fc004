/*
 * kmem SIZE_MIB DIRECTORY: a load on the kernel's own memory, in both VMs while a container moves between
 * them. Files of SIZE_MIB in all are kept in the page cache, read back and rewritten; pipes hold data; names
 * come and go (dentries, inodes). A frame of the kernel that a migration took or gave shows here, or as an
 * oops. Once bad it stays bad.
 *
 * Output: "kmem ready files=N", "verify BAD ..." at once, and for each SIGUSR1 "verify ok rounds=N" or
 * "verify BAD wrong=N rounds=N".
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_BYTES = 1 << 20,
    BLOCK_BYTES = 1 << 16,
    PIPES = 64,
    PIPE_BYTES = 16384,
    NAMES = 128,
    PERCENT = 5,
    MAX_NAMED = 5
};

static size_t bad;
static const char *directory;

static void wrong(const char *what, size_t index, uint64_t generation)
{
    if (++bad <= MAX_NAMED)
        say("verify BAD %s %zu in generation %lu", what, index, (unsigned long)generation);
}

/* Words that name what they belong to and their own offset. */
static void make_block(uint64_t *block, size_t bytes, uint64_t owner, uint64_t offset, uint64_t generation)
{
    uint64_t base = mix64(owner * 1000003 + generation);
    for (size_t i = 0; i < bytes / 8; i++) block[i] = base + (offset + i * 8) * 0x9e3779b97f4a7c15ULL;
}

static int open_file(size_t index, int flags)
{
    char name[256];
    snprintf(name, sizeof(name), "%s/kmem-%zu", directory, index);
    int fd = open(name, flags | O_CLOEXEC, 0600);
    if (fd < 0) die("%s: %s", name, strerror(errno));
    return fd;
}

static void write_file(size_t index, uint64_t generation)
{
    static uint64_t block[BLOCK_BYTES / 8];
    int fd = open_file(index, O_WRONLY | O_CREAT);
    for (off_t at = 0; at < FILE_BYTES; at += BLOCK_BYTES) {
        make_block(block, BLOCK_BYTES, index, (uint64_t)at, generation);
        if (pwrite(fd, block, BLOCK_BYTES, at) != BLOCK_BYTES) die("write: %s", strerror(errno));
    }
    close(fd);
}

static void check_file(size_t index, uint64_t generation)
{
    static uint64_t block[BLOCK_BYTES / 8], want[BLOCK_BYTES / 8];
    int fd = open_file(index, O_RDONLY);
    for (off_t at = 0; at < FILE_BYTES; at += BLOCK_BYTES) {
        make_block(want, BLOCK_BYTES, index, (uint64_t)at, generation);
        if (pread(fd, block, BLOCK_BYTES, at) != BLOCK_BYTES || memcmp(block, want, BLOCK_BYTES)) {
            wrong("file", index, generation);
            break;
        }
    }
    close(fd);
}

/* Takes out of a pipe what the round before put in, checks it, fills it again. */
static void turn_pipe(int ends[2], size_t index, uint64_t generation)
{
    static uint64_t got[PIPE_BYTES / 8], want[PIPE_BYTES / 8];
    if (generation > 0) {
        make_block(want, PIPE_BYTES, 1000000 + index, 0, generation - 1);
        if (read(ends[0], got, PIPE_BYTES) != PIPE_BYTES || memcmp(got, want, PIPE_BYTES))
            wrong("pipe", index, generation);
    }
    make_block(want, PIPE_BYTES, 1000000 + index, 0, generation);
    if (write(ends[1], want, PIPE_BYTES) != PIPE_BYTES) die("pipe: %s", strerror(errno));
}

/* Makes names, looks at each of them, removes them. */
static void turn_names(uint64_t generation)
{
    char name[256];
    struct stat found;
    for (int remove = 0; remove < 2; remove++) {
        for (size_t i = 0; i < NAMES; i++) {
            snprintf(name, sizeof(name), "%s/kmem-name-%zu", directory, i);
            if (!remove && mkdir(name, 0700) && errno != EEXIST) die("mkdir: %s", strerror(errno));
            if (remove && (stat(name, &found) || !S_ISDIR(found.st_mode) || rmdir(name)))
                wrong("name", i, generation);
        }
    }
}

static void answer(uint64_t rounds)
{
    if (bad == 0)
        say("verify ok rounds=%lu", (unsigned long)rounds);
    else
        say("verify BAD wrong=%zu rounds=%lu", bad, (unsigned long)rounds);
}

int main(int argc, char **argv)
{
    if (argc != 3) die("usage: kmem SIZE_MIB DIRECTORY");
    size_t files = (size_t)parse_number("SIZE_MIB", argv[1], 1, 4096) * (1UL << 20) / FILE_BYTES;
    directory = argv[2];
    workload_init();
    if (mkdir(directory, 0700) && errno != EEXIST) die("%s: %s", directory, strerror(errno));
    int pipes[PIPES][2];
    for (size_t i = 0; i < PIPES; i++)
        if (pipe2(pipes[i], O_CLOEXEC)) die("pipe: %s", strerror(errno));
    for (size_t i = 0; i < files; i++) write_file(i, 0);
    say("kmem ready files=%zu", files);

    for (uint64_t generation = 0;; generation++) {
        for (size_t i = 0; i < PIPES; i++) turn_pipe(pipes[i], i, generation);
        turn_names(generation);
        for (size_t i = 0; i < files; i++) {
            check_file(i, generation);
            write_file(i, generation + 1);
            if (verify_requested()) answer(generation);
            rest_to_share(PERCENT);
        }
    }
}
