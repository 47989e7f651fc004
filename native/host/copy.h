/* SPDX-License-Identifier: Apache-2.0 */
/* Copying between the memories of two other processes. Functions return 0 or a negative errno. */
#ifndef MWARP_HOST_COPY_H
#define MWARP_HOST_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MW_PAGE_BYTES 4096u

struct mw_extent {
    uint64_t source;
    uint64_t destination;
    uint64_t bytes;
};

enum mw_side { MW_SIDE_SOURCE, MW_SIDE_DESTINATION };

struct mw_copy {
    pid_t source_pid;
    pid_t destination_pid;
    const struct mw_extent *extents;
    size_t count;

    /* Results. `failed_index` and `failed_side` mean something only after an error. */
    uint64_t copied;
    size_t failed_index;
    enum mw_side failed_side;
};

/*
 * Copies all extents, in order. -EFAULT when a page of either process is not mapped, -ESRCH when a process is
 * gone, -ENOMEM without a bounce buffer. What was copied before an error stays copied.
 */
int mw_copy_extents(struct mw_copy *copy);

struct mw_costs {
    uint64_t remap_ns;
    uint64_t touch_ns;
    uint64_t copy_ns;
};

/*
 * Measures, on two memory files of this process, exchanging `pages` pages in runs of `run_pages` in scattered
 * order, touching them again, and copying as many. -EINVAL for sizes that do not fit, -ENOMEM or another
 * errno when the memory cannot be had.
 */
int mw_measure_costs(size_t pages, size_t run_pages, size_t host_page_bytes, struct mw_costs *costs);

#endif
