/* SPDX-License-Identifier: Apache-2.0 */
/* What an exchange by mmap, the touching afterwards, and a copy cost on this host. */
#define _GNU_SOURCE
#include "copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HUGE_BYTES (2u * 1024 * 1024)

/* One side: a memory file, mapped. */
struct side {
    int fd;
    char *at;
    size_t bytes;
    void *reserved;
    size_t reserved_bytes;
};

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void side_close(struct side *side)
{
    if (side->reserved != NULL) munmap(side->reserved, side->reserved_bytes);
    if (side->fd >= 0) close(side->fd);
}

static int side_open(struct side *side, size_t bytes, size_t host_page_bytes)
{
    unsigned int flags = MFD_CLOEXEC | (host_page_bytes == HUGE_BYTES ? MFD_HUGETLB | MFD_HUGE_2MB : 0);

    *side = (struct side){.fd = memfd_create("mwarp-measure", flags), .bytes = bytes};
    if (side->fd < 0 || ftruncate(side->fd, (off_t)bytes) < 0) return -errno;
    /* Room to align to 2 MiB, whatever the backing. */
    side->reserved_bytes = bytes + HUGE_BYTES;
    void *reserved =
        mmap(NULL, side->reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) return -errno;
    side->reserved = reserved;
    side->at = (char *)(((uintptr_t)reserved + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
    /* SAFETY: the range lies inside the reservation made above, which nothing else uses. */
    if (mmap(side->at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, side->fd, 0) == MAP_FAILED)
        return -errno;
    /* Without huge pages in reserve mmap has failed already; hugetlb never faults past its reservation. */
    memset(side->at, 1, bytes);
    return 0;
}

/* Both sides of each run, scattered: run i of one against run i * stride of the other. */
static int exchange_all(const struct side *a, const struct side *b, size_t run_bytes, size_t stride)
{
    size_t runs = a->bytes / run_bytes;

    for (size_t i = 0; i < runs; i++) {
        size_t here = i * run_bytes;
        size_t there = i * stride % runs * run_bytes;

        /* SAFETY: both ranges lie inside the sides' own mappings; the files are as long as the mappings. */
        if (mmap(a->at + here, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, b->fd,
                 (off_t)there) == MAP_FAILED ||
            mmap(b->at + there, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, a->fd,
                 (off_t)here) == MAP_FAILED)
            return -errno;
    }
    return 0;
}

static void touch_all(const struct side *side)
{
    volatile char *at = side->at;

    for (size_t i = 0; i < side->bytes; i += MW_PAGE_BYTES) at[i]++;
}

static int copy_all(const struct side *a, const struct side *b, size_t run_bytes, size_t stride)
{
    size_t runs = a->bytes / run_bytes;
    struct mw_extent *extents = calloc(runs, sizeof(*extents));
    struct mw_copy copy = {
        .source_pid = getpid(), .destination_pid = getpid(), .extents = extents, .count = runs};

    if (extents == NULL) return -ENOMEM;
    for (size_t i = 0; i < runs; i++) {
        extents[i].source = (uintptr_t)a->at + i * run_bytes;
        extents[i].destination = (uintptr_t)b->at + i * stride % runs * run_bytes;
        extents[i].bytes = run_bytes;
    }
    int rc = mw_copy_extents(&copy);
    free(extents);
    return rc;
}

static int measure(const struct side *a, const struct side *b, size_t run_bytes, struct mw_costs *costs)
{
    /* Odd, so that with a power of two of runs every one is met once. */
    const size_t stride = 177;
    uint64_t start = now_ns();
    int rc = copy_all(a, b, run_bytes, stride);

    if (rc < 0) return rc;
    costs->copy_ns = now_ns() - start;
    start = now_ns();
    rc = exchange_all(a, b, run_bytes, stride);
    if (rc < 0) return rc;
    costs->remap_ns = now_ns() - start;
    start = now_ns();
    touch_all(a);
    costs->touch_ns = now_ns() - start;
    return 0;
}

int mw_measure_costs(size_t pages, size_t run_pages, size_t host_page_bytes, struct mw_costs *costs)
{
    size_t run_bytes = run_pages * MW_PAGE_BYTES;
    struct side a, b = {.fd = -1};
    int rc;

    if (pages == 0 || pages > 65536 || run_pages == 0 || pages % run_pages != 0 ||
        (pages / run_pages & (pages / run_pages - 1)) != 0)
        return -EINVAL;
    if ((host_page_bytes != MW_PAGE_BYTES && host_page_bytes != HUGE_BYTES) ||
        run_bytes % host_page_bytes != 0)
        return -EINVAL;
    rc = side_open(&a, pages * MW_PAGE_BYTES, host_page_bytes);
    if (rc == 0) rc = side_open(&b, pages * MW_PAGE_BYTES, host_page_bytes);
    if (rc == 0) rc = measure(&a, &b, run_bytes, costs);
    side_close(&a);
    side_close(&b);
    return rc;
}
