/*
 * Keeps files on tmpfs in memory and mapped, so that the host finds their frames by the page tables of this process and can
 * exchange them with those of files of another guest (migration/methods/large-images.ts). It ends with its standard input, and all
 * that it holds with it.
 *
 *   request: "read ADDRESS BYTES PATH\n"   the file is there, of that length, and is only read
 *            "make ADDRESS BYTES PATH\n"   it is made, and every page of it written to: only such frames are exchanged into (I8)
 *   answer:  "0\n" when it is mapped there, or "-ERRNO\n"
 *
 * Pages are locked: what is swapped out between the answer and the exchange has no frame. Several threads touch them, as the time
 * goes into zeroing.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE        4096ULL
#define MAX_THREADS 4
#define LINE_BYTES  4352

/* Since Linux 4.17 and 5.14; the headers that this is built with may be older. */
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

struct part {
    pthread_t thread;
    char *start;
    size_t bytes;
    int advice, error;
};

static void *touch(void *argument)
{
    struct part *part = argument;

    /* EAGAIN: a signal, or a page that went again meanwhile (madvise(2)). */
    while (madvise(part->start, part->bytes, part->advice) != 0)
        if (errno != EAGAIN && errno != EINTR) {
            part->error = -errno;
            break;
        }
    return NULL;
}

static int touch_all(char *start, size_t bytes, int advice)
{
    struct part parts[MAX_THREADS];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t wanted = processors < 1 ? 1 : processors > MAX_THREADS ? MAX_THREADS : (size_t)processors;
    size_t each = (bytes / PAGE + wanted - 1) / wanted * PAGE, count = 0, i, at;
    int error = 0;

    for (at = 0; at < bytes; at += each) {
        struct part *part = &parts[count++];

        *part = (struct part){.start = start + at, .bytes = bytes - at < each ? bytes - at : each, .advice = advice};
        if (at > 0 && pthread_create(&part->thread, NULL, touch, part) != 0) {
            touch(part);
            part->start = NULL;
        }
    }
    touch(&parts[0]);
    for (i = 0; i < count; i++) {
        if (i > 0 && parts[i].start) pthread_join(parts[i].thread, NULL);
        if (error == 0) error = parts[i].error;
    }
    return error;
}

static int open_file(const char *path, size_t bytes, bool make)
{
    struct stat file;
    int fd = open(path, make ? O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW : O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    int error = 0;

    if (fd < 0) return -errno;
    if (make && ftruncate(fd, (off_t)bytes) != 0) error = -errno;
    if (error == 0 && fstat(fd, &file) != 0) error = -errno;
    if (error == 0 && (size_t)file.st_size != bytes) error = -ESTALE;
    if (error == 0) return fd;
    close(fd);
    return error;
}

/* The mapping stays; the descriptor need not. */
static int hold(const char *path, uint64_t address, size_t bytes, bool make)
{
    size_t whole = (bytes + PAGE - 1) / PAGE * PAGE;
    char *start;
    int fd = open_file(path, bytes, make), error;

    if (fd < 0) return fd;
    start = mmap((void *)(uintptr_t)address, whole, make ? PROT_READ | PROT_WRITE : PROT_READ,
                 MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    error = start == MAP_FAILED ? -errno : touch_all(start, whole, make ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
    if (error == 0 && mlock(start, whole) != 0) error = -errno;
    close(fd);
    if (error == 0) return 0;
    if (start != MAP_FAILED) munmap(start, whole);
    if (make) unlink(path);
    return error;
}

static int answer(const char *line)
{
    char way[8], path[LINE_BYTES];
    unsigned long long address, bytes;

    if (sscanf(line, "%7s %llu %llu %4095[^\n]", way, &address, &bytes, path) != 4 || bytes == 0) return -EINVAL;
    if (strcmp(way, "make") == 0) return hold(path, address, bytes, true);
    return strcmp(way, "read") == 0 ? hold(path, address, bytes, false) : -EINVAL;
}

int hold_main(void)
{
    char line[LINE_BYTES];

    while (fgets(line, sizeof line, stdin)) {
        printf("%d\n", answer(line));
        if (fflush(stdout) != 0) return 1;
    }
    return 0;
}
