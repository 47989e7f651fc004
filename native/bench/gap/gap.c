/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mwarp-bench-gap: a small process that notes when it did not run. One static program without open files.
 *
 *   mwarp-bench-gap watch FILE BYTES   holds BYTES of memory and looks at the clock every millisecond; each
 *                                      time in which it did not run for 10 ms or more is a line of FILE:
 *                                      "FROM NS", both in nanoseconds
 *   mwarp-bench-gap now                prints "REALTIME MONOTONIC", nanoseconds
 *
 * FROM is of CLOCK_REALTIME: no time namespace, in which CRIU may put what it restores, shifts it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS    1000000L
#define LEAST_NS   10000000LL
#define PAGE_BYTES 4096UL
#define LINE_BYTES 64
#define MAX_BYTES  (1ULL << 40)

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int failed(const char *what)
{
    fprintf(stderr, "mwarp-bench-gap: %s: %s\n", what, strerror(errno));
    return 1;
}

/* Opened for each line: a file that is open would be one thing more for a checkpoint to keep. */
static int note(const char *file, int64_t from, int64_t ns)
{
    char line[LINE_BYTES];
    int length = snprintf(line, sizeof line, "%lld %lld\n", (long long)from, (long long)ns);
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    ssize_t written;

    if (fd < 0) return -1;
    written = write(fd, line, (size_t)length);
    if (close(fd) || written != length) return -1;
    return 0;
}

static void on_end(int signal)
{
    (void)signal;
    _exit(0);
}

static int watch(const char *file, uint64_t bytes)
{
    const struct timespec tick = {.tv_nsec = TICK_NS};
    struct sigaction end = {.sa_handler = on_end};
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) return failed("mmap");
    for (uint64_t at = 0; at < bytes; at += PAGE_BYTES) memory[at] = (char)(at / PAGE_BYTES + 1);
    /* The first process of a container gets only those signals that it asks for. */
    if (sigaction(SIGTERM, &end, NULL)) return failed("sigaction");
    for (int64_t last = clock_ns(CLOCK_REALTIME);;) {
        int64_t now;

        nanosleep(&tick, NULL);
        now = clock_ns(CLOCK_REALTIME);
        if (now - last >= LEAST_NS && note(file, last, now - last)) return failed(file);
        /* Noting took time, too, in which it ran. */
        last = clock_ns(CLOCK_REALTIME);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "now")) {
        int64_t realtime = clock_ns(CLOCK_REALTIME);

        printf("%lld %lld\n", (long long)realtime, (long long)clock_ns(CLOCK_MONOTONIC));
        return 0;
    }
    if (argc == 4 && !strcmp(argv[1], "watch")) {
        char *end;
        unsigned long long bytes = strtoull(argv[3], &end, 10);

        if (*end == '\0' && bytes >= PAGE_BYTES && bytes <= MAX_BYTES) return watch(argv[2], bytes);
    }
    fprintf(stderr, "usage: mwarp-bench-gap watch FILE BYTES | now\n");
    return 2;
}
