/* Starts the processes and leaves each to its loop. */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_PROCESSES 256

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vdprintf(STDERR_FILENO, format, args);
    va_end(args);
    dprintf(STDERR_FILENO, "\n");
    _exit(2);
}

bool read_whole(int fd, void *buffer, size_t bytes)
{
    for (char *at = buffer; bytes > 0;) {
        ssize_t got = read(fd, at, bytes);

        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got;
        bytes -= (size_t)got;
    }
    return true;
}

bool write_whole(int fd, const void *buffer, size_t bytes)
{
    for (const char *at = buffer; bytes > 0;) {
        ssize_t done = write(fd, at, bytes);

        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return false;
        at += done;
        bytes -= (size_t)done;
    }
    return true;
}

static void on_end(int signal)
{
    (void)signal;
    _exit(0);
}

static double parse(const char *what, const char *text, double low, double high)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= low && value <= high))
        die("%s: wanted a number from %g to %g, not '%s'", what, low, high, text);
    return value;
}

/* Maps the memory of process `number` and says so. */
static void begin(struct memory *memory, size_t number)
{
    memory_map(memory);
    dprintf(STDOUT_FILENO, "process %zu at=%p pages=%zu\n", number, (void *)memory->start, memory->pages);
}

int main(int argc, char **argv)
{
    struct sigaction end = {.sa_handler = on_end}, ignore = {.sa_handler = SIG_IGN};
    static struct peer peers[MAX_PROCESSES];

    if (argc != 6) die("usage: mwarp-bench-memory PORT BYTES PROCESSES thp|scattered SHARE");
    uint16_t port = (uint16_t)parse("PORT", argv[1], 1, 65535);
    size_t processes = (size_t)parse("PROCESSES", argv[3], 1, MAX_PROCESSES);
    size_t pages = (size_t)parse("BYTES", argv[2], 4096, 1e15) / PAGE_BYTES / processes;
    double share = parse("SHARE", argv[5], 0, 1000);
    bool scattered = !strcmp(argv[4], "scattered");
    if (!scattered && strcmp(argv[4], "thp")) die("pages: wanted thp or scattered, not '%s'", argv[4]);
    if (pages == 0) die("less than a page for each process");
    /* The first process of a container gets only those signals that it asks for. */
    if (sigaction(SIGTERM, &end, NULL) || sigaction(SIGINT, &end, NULL) || sigaction(SIGPIPE, &ignore, NULL))
        die("sigaction: %s", strerror(errno));

    struct memory memory = {.pages = pages, .scattered = scattered};
    struct pace pace = {.rate = share * (double)pages, .tick_ms = 10 + (int)processes};
    for (size_t i = 1; i < processes; i++) {
        int to[2], from[2];
        pid_t pid;

        if (pipe(to) || pipe(from)) die("pipe: %s", strerror(errno));
        if ((pid = fork()) < 0) die("fork: %s", strerror(errno));
        if (pid == 0) {
            struct answer ready = {0};

            for (size_t j = 0; j + 1 < i; j++) {
                close(peers[j].in);
                close(peers[j].out);
            }
            close(to[1]);
            close(from[0]);
            memory.first = i * pages;
            begin(&memory, i);
            if (!write_whole(from[1], &ready, sizeof ready)) _exit(0);
            pace.last_ns = now_ns();
            process_main(to[0], from[1], &memory, &pace);
        }
        close(to[0]);
        close(from[1]);
        peers[i - 1] = (struct peer){.in = from[0], .out = to[1]};
    }
    begin(&memory, 0);
    for (size_t i = 0; i + 1 < processes; i++) {
        struct answer ready;

        if (!read_whole(peers[i].in, &ready, sizeof ready)) die("process %zu has ended", i + 1);
    }
    int listener = control_listen(port);
    dprintf(STDOUT_FILENO, "ready\n");
    pace.last_ns = now_ns();
    control_main(listener, peers, processes - 1, &memory, &pace, pages * processes);
}
