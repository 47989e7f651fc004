/* SPDX-License-Identifier: Apache-2.0 */
/* Copying between the memories of two other processes. Functions return 0 or a negative errno. */
#ifndef MWARP_HOST_COPY_H
#define MWARP_HOST_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MW_PAGE_BYTES 4096u

/* Addresses are those of the process that the way of copying names. */
struct mw_extent {
    uint64_t source;
    uint64_t destination;
    uint64_t bytes;
};

enum mw_side { MW_SIDE_SOURCE, MW_SIDE_DESTINATION };

enum mw_way {
    /* Through a buffer, from one process's addresses to the other's: nothing is mapped here. */
    MW_BOUNCE,
    /* Straight from a mapping of the source's file to the destination's addresses, by the kernel. */
    MW_WRITE,
    /* Straight from mapping to mapping, by this process, with stores that go past the caches. */
    MW_STREAM,
};

struct mw_copy {
    enum mw_way way;
    /* 0 where the way needs none. */
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
 * Copies all extents, in order. -EFAULT when a page of either side cannot be reached, -ESRCH when a process is
 * gone, -ENOMEM without a buffer. What was copied before an error stays copied.
 */
int mw_copy_extents(struct mw_copy *copy);

/* Copies one extent between mappings of this process. -EFAULT when a page of a file cannot be had. */
int mw_stream(const struct mw_extent *extent);

#endif
