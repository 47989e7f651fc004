/*
 * fault-costs: what this kernel takes to fault memory in, and to give a process alone what it had shared over a fork. Prints five
 * numbers, microseconds:
 *
 *   faulting in 2 MiB as a huge page, where they can be had, and 4 KiB as a small one
 *   taking back the same two: what a fork, letting go on one side and a first write on the other take more than with nothing
 *   a small mapping that is made, moved and unmapped
 */
#include "guest.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE       4096UL
#define HUGE_BYTES (512 * PAGE)
#define BLOCKS     8UL
#define SMALL      1024UL
#define MAPPINGS   16
#define TRIES      3

struct times {
    double in, back;
};

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static double time_advice(void *at, size_t bytes, int advice)
{
    double since = now_us();

    return madvise(at, bytes, advice) == 0 ? now_us() - since : -1;
}

/* The child waits until its parent has let go; how long all of it took comes back as its answer. */
static double take_back(char *at, size_t bytes)
{
    int go[2], answer[2];
    double result = -1, since;
    pid_t child;

    if (pipe(go) != 0) return -1;
    if (pipe(answer) != 0) {
        close(go[0]);
        close(go[1]);
        return -1;
    }
    since = now_us();
    child = fork();
    if (child == 0) {
        char byte;
        double us;

        close(go[1]);
        if (read(go[0], &byte, 1) < 0) _exit(1);
        us = bytes == 0 || madvise(at, bytes, MADV_POPULATE_WRITE) == 0 ? now_us() - since : -1;
        _exit(write(answer[1], &us, sizeof us) == sizeof us ? 0 : 1);
    }
    if (bytes > 0) munmap(at, bytes);
    close(go[0]);
    close(go[1]);
    close(answer[1]);
    if (child > 0) {
        if (read(answer[0], &result, sizeof result) != sizeof result) result = -1;
        waitpid(child, NULL, 0);
    }
    close(answer[0]);
    return result;
}

/* Of `bytes`, a multiple of 2 MiB. Negative times when it cannot be done. */
static struct times measure(size_t bytes, int advice)
{
    struct times times = {-1, -1};
    char *room = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t head;

    if (room == MAP_FAILED) return times;
    head = (HUGE_BYTES - (uintptr_t)room % HUGE_BYTES) % HUGE_BYTES;
    if (head > 0) munmap(room, head);
    if (head < HUGE_BYTES) munmap(room + head + bytes, HUGE_BYTES - head);
    madvise(room + head, bytes, advice);
    times.in = time_advice(room + head, bytes, MADV_POPULATE_WRITE);
    times.back = take_back(room + head, bytes);
    return times;
}

static double move_mapping(void)
{
    double since = now_us();

    for (int i = 0; i < MAPPINGS; i++) {
        char *to = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char *from = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (to == MAP_FAILED || from == MAP_FAILED) return -1;
        if (mremap(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) return -1;
        munmap(to, PAGE);
    }
    return (now_us() - since) / MAPPINGS;
}

static void keep_least(double *least, double value)
{
    if (*least < 0 || (value >= 0 && value < *least)) *least = value;
}

int fault_costs_main(void)
{
    struct times huge = {-1, -1}, small = {-1, -1};
    double move = -1, nothing = -1;

    for (int i = 0; i < TRIES; i++) {
        struct times now = measure(BLOCKS * HUGE_BYTES, MADV_HUGEPAGE);

        keep_least(&huge.in, now.in);
        keep_least(&huge.back, now.back);
        now = measure(SMALL * PAGE, MADV_NOHUGEPAGE);
        keep_least(&small.in, now.in);
        keep_least(&small.back, now.back);
        keep_least(&move, move_mapping());
        keep_least(&nothing, take_back(NULL, 0));
    }
    if (huge.in < 0 || huge.back < 0 || small.in < 0 || small.back < 0 || move < 0 || nothing < 0) {
        fprintf(stderr, "memory cannot be faulted in ahead (madvise, MADV_POPULATE_WRITE)\n");
        return 1;
    }
    huge.back = huge.back > nothing ? huge.back - nothing : 0;
    small.back = small.back > nothing ? small.back - nothing : 0;
    printf("%.3f %.3f %.3f %.3f %.3f\n", huge.in / BLOCKS, small.in / SMALL, huge.back / BLOCKS, small.back / SMALL,
           move);
    return 0;
}
