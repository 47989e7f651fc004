/*
 * Faults pages of a frozen task in, by writes through /proc/PID/mem. First one byte per wholly wanted 2 MiB
 * block, so that the kernel can give a huge page; then whatever is still missing, page by page. Several
 * threads: the time goes into zeroing, and faults of one address space run in parallel.
 *
 * A page that is absent gets a zero byte (it would read as zero). A page that is present but not the task's
 * own (zero page, shared after fork) gets its own byte written back, so nothing changes but the ownership.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PAGE          4096ULL
#define HUGE_PAGES    512ULL
#define HUGE_BYTES    (PAGE * HUGE_PAGES)
#define MAX_THREADS   4
#define MAP_PRESENT   (1ULL << 63)
#define MAP_SWAPPED   (1ULL << 62)
#define MAP_EXCLUSIVE (1ULL << 56)

/* ioctl_pagemap_scan(2), since Linux 6.7; the headers that this is built with may be older. */
struct scan {
    uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages;
    uint64_t inverted, all_of, any_of, returned;
};
struct region {
    uint64_t start, end, categories;
};
#define SCAN      _IOWR('f', 16, struct scan)
#define SCAN_HUGE (1ULL << 6)

struct job {
    int memory, pagemap;
    const struct page_run *runs;
    size_t count;
    unsigned threads;
    atomic_llong touched;
    atomic_int error;
};

struct worker {
    pthread_t thread;
    struct job *job;
    unsigned number;
    bool huge;
};

static int touch(struct job *job, uint64_t address, uint64_t entry)
{
    char byte = 0;

    if (entry & (MAP_PRESENT | MAP_SWAPPED)) {
        if (entry & MAP_EXCLUSIVE) return 0;
        if (pread(job->memory, &byte, 1, (off_t)address) != 1) return errno ? -errno : -EIO;
    }
    if (pwrite(job->memory, &byte, 1, (off_t)address) != 1) return errno ? -errno : -EIO;
    atomic_fetch_add_explicit(&job->touched, 1, memory_order_relaxed);
    return 0;
}

static int read_entries(struct job *job, uint64_t address, uint64_t *entries, uint64_t pages)
{
    ssize_t bytes = (ssize_t)(pages * sizeof *entries);

    if (pread(job->pagemap, entries, (size_t)bytes, (off_t)(address / PAGE * sizeof *entries)) != bytes)
        return errno ? -errno : -EIO;
    return 0;
}

static int touch_blocks(struct job *job, const struct page_run *run, unsigned number, uint64_t *turn)
{
    uint64_t end = run->address + run->pages * PAGE;
    uint64_t block = (run->address + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    int error = 0;

    for (; block + HUGE_BYTES <= end && error == 0; block += HUGE_BYTES) {
        uint64_t entry;

        if ((*turn)++ % job->threads != number) continue;
        error = read_entries(job, block, &entry, 1);
        if (error == 0 && !(entry & (MAP_PRESENT | MAP_SWAPPED))) error = touch(job, block, entry);
    }
    return error;
}

/* Whether a block is mapped by one huge page that is the task's own: then none of its 512 entries need be looked at. */
static bool is_own_huge_page(struct job *job, uint64_t block)
{
    struct region other;
    struct scan not_huge = {.size = sizeof not_huge,
                            .start = block,
                            .end = block + HUGE_BYTES,
                            .regions = (uintptr_t)&other,
                            .region_count = 1,
                            .inverted = SCAN_HUGE,
                            .all_of = SCAN_HUGE,
                            .returned = SCAN_HUGE};
    uint64_t entry;

    if (ioctl(job->pagemap, SCAN, &not_huge) != 0 || read_entries(job, block, &entry, 1) < 0) return false;
    return (entry & (MAP_PRESENT | MAP_EXCLUSIVE)) == (MAP_PRESENT | MAP_EXCLUSIVE);
}

static int touch_pages(struct job *job, const struct page_run *run, unsigned number, uint64_t *turn)
{
    uint64_t entries[HUGE_PAGES], done, i, end = run->address + run->pages * PAGE;
    uint64_t at = run->address;
    int error = 0;

    for (; at < end && error == 0; at += done * PAGE) {
        done = HUGE_PAGES - at / PAGE % HUGE_PAGES;
        if (done > (end - at) / PAGE) done = (end - at) / PAGE;
        if ((*turn)++ % job->threads != number) continue;
        if (done == HUGE_PAGES && is_own_huge_page(job, at)) continue;
        error = read_entries(job, at, entries, done);
        for (i = 0; i < done && error == 0; i++) error = touch(job, at + i * PAGE, entries[i]);
    }
    return error;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct job *job = worker->job;
    uint64_t turn = 0;
    size_t i;

    for (i = 0; i < job->count && atomic_load(&job->error) == 0; i++) {
        int error = worker->huge ? touch_blocks(job, &job->runs[i], worker->number, &turn)
                                 : touch_pages(job, &job->runs[i], worker->number, &turn);

        if (error < 0) atomic_store(&job->error, error);
    }
    return NULL;
}

static void run_phase(struct job *job, bool huge)
{
    struct worker workers[MAX_THREADS];
    unsigned i, started;

    for (i = 0; i < job->threads; i++) {
        workers[i] = (struct worker){.job = job, .number = i, .huge = huge};
        if (i == 0) continue;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            atomic_store(&job->error, -EAGAIN);
        if (atomic_load(&job->error) == -EAGAIN) break;
    }
    started = i;
    work(&workers[0]);
    for (i = 1; i < started; i++) pthread_join(workers[i].thread, NULL);
}

int64_t populate(pid_t pid, const struct page_run *runs, size_t count)
{
    struct job job = {.runs = runs, .count = count};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    char path[64];
    int error;

    job.threads = processors < 1 ? 1 : processors > MAX_THREADS ? MAX_THREADS : (unsigned)processors;
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    job.memory = open(path, O_RDWR | O_CLOEXEC);
    if (job.memory < 0) return -errno;
    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    job.pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (job.pagemap < 0) {
        error = -errno;
        close(job.memory);
        return error;
    }
    run_phase(&job, true);
    if (atomic_load(&job.error) == 0) run_phase(&job, false);
    close(job.pagemap);
    close(job.memory);
    error = atomic_load(&job.error);
    return error < 0 ? error : atomic_load(&job.touched);
}
