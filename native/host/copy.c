/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three ways to copy, chosen by measurement (see ARCHITECTURE.md). By MW_BOUNCE and MW_WRITE only the kernel touches
 * guest memory, so a VMM that dies or truncates its memory gives -EFAULT or -ESRCH and no SIGBUS.
 */
#define _GNU_SOURCE
#include "copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* Stays in the second-level cache. */
#define BOUNCE_BYTES (256u * 1024)
#define WRITE_BYTES  (2048u * 1024)
/* Every piece has at least a page; and the kernel takes 1024 at a time (IOV_MAX). */
#define MAX_PIECES (WRITE_BYTES / MW_PAGE_BYTES)

struct batch {
    struct iovec source[MAX_PIECES];
    struct iovec destination[MAX_PIECES];
    size_t extent[MAX_PIECES];
    size_t count;
    size_t bytes;
};

/* Position in the list: an extent, and how much of it has been handed out. */
struct cursor {
    size_t index;
    uint64_t offset;
};

static void fill_batch(struct batch *batch, const struct mw_copy *copy, struct cursor *at, size_t limit)
{
    batch->count = 0;
    batch->bytes = 0;
    while (at->index < copy->count && batch->bytes < limit) {
        const struct mw_extent *extent = &copy->extents[at->index];
        uint64_t left = extent->bytes - at->offset;
        size_t room = limit - batch->bytes;
        size_t piece = left < room ? (size_t)left : room;

        batch->source[batch->count].iov_base = (void *)(uintptr_t)(extent->source + at->offset);
        batch->source[batch->count].iov_len = piece;
        batch->destination[batch->count].iov_base = (void *)(uintptr_t)(extent->destination + at->offset);
        batch->destination[batch->count].iov_len = piece;
        batch->extent[batch->count] = at->index;
        batch->count++;
        batch->bytes += piece;
        at->offset += piece;
        if (at->offset == extent->bytes) {
            at->index++;
            at->offset = 0;
        }
    }
}

/* The extent in which a short transfer of `done` bytes stopped. */
static size_t extent_at(const struct batch *batch, const struct iovec *pieces, size_t done)
{
    size_t piece = 0;

    while (piece + 1 < batch->count && done >= pieces[piece].iov_len) done -= pieces[piece++].iov_len;
    return batch->extent[piece];
}

static int check_transfer(ssize_t got, struct mw_copy *copy, const struct batch *batch, enum mw_side side)
{
    const struct iovec *pieces = side == MW_SIDE_SOURCE ? batch->source : batch->destination;

    if (got == (ssize_t)batch->bytes) return 0;
    copy->failed_side = side;
    if (got < 0) {
        copy->failed_index = batch->extent[0];
        return -errno;
    }
    /* The kernel stops at the first page it cannot reach and reports what it did before. */
    copy->failed_index = extent_at(batch, pieces, (size_t)got);
    return -EFAULT;
}

static int copy_batch(struct mw_copy *copy, const struct batch *batch, void *bounce)
{
    struct iovec local = {.iov_base = bounce, .iov_len = batch->bytes};
    ssize_t got = process_vm_readv(copy->source_pid, &local, 1, batch->source, batch->count, 0);
    int rc = check_transfer(got, copy, batch, MW_SIDE_SOURCE);

    if (rc < 0) return rc;
    got = process_vm_writev(copy->destination_pid, &local, 1, batch->destination, batch->count, 0);
    rc = check_transfer(got, copy, batch, MW_SIDE_DESTINATION);
    if (rc == 0) copy->copied += batch->bytes;
    return rc;
}

/* A short transfer may be either side's fault; a file that is mapped here hardly ever lacks a page. */
static int write_batch(struct mw_copy *copy, const struct batch *batch)
{
    ssize_t got = process_vm_writev(copy->destination_pid, batch->source, batch->count, batch->destination,
                                    batch->count, 0);
    int rc = check_transfer(got, copy, batch, MW_SIDE_DESTINATION);

    if (rc == 0) copy->copied += batch->bytes;
    return rc;
}

static int copy_by_kernel(struct mw_copy *copy)
{
    size_t limit = copy->way == MW_WRITE ? WRITE_BYTES : BOUNCE_BYTES;
    struct batch *batch = malloc(sizeof(*batch));
    struct cursor at = {0, 0};
    void *bounce = NULL;
    int rc = batch == NULL ? -ENOMEM : 0;

    if (rc == 0 && copy->way == MW_BOUNCE) rc = -posix_memalign(&bounce, MW_PAGE_BYTES, BOUNCE_BYTES);
    while (rc == 0 && at.index < copy->count) {
        fill_batch(batch, copy, &at, limit);
        rc = copy->way == MW_WRITE ? write_batch(copy, batch) : copy_batch(copy, batch, bounce);
    }
    /* A container's bytes do not stay behind in the daemon's heap. */
    if (bounce != NULL) explicit_bzero(bounce, BOUNCE_BYTES);
    free(bounce);
    free(batch);
    return rc;
}

static int copy_by_stream(struct mw_copy *copy)
{
    for (size_t i = 0; i < copy->count; i++) {
        int rc = mw_stream(&copy->extents[i]);

        if (rc < 0) {
            copy->failed_index = i;
            return rc;
        }
        copy->copied += copy->extents[i].bytes;
    }
    return 0;
}

int mw_copy_extents(struct mw_copy *copy)
{
    copy->copied = 0;
    copy->failed_index = 0;
    copy->failed_side = MW_SIDE_SOURCE;
    return copy->way == MW_STREAM ? copy_by_stream(copy) : copy_by_kernel(copy);
}
