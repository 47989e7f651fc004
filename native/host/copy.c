/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy through a bounce buffer that stays in the second-level cache: process_vm_readv from one VMM,
 * process_vm_writev to the other. No guest memory is mapped here, so a VMM that dies or truncates its memory
 * cannot raise SIGBUS in the daemon; and addresses are the VMM's own, which follow all earlier remaps.
 */
#define _GNU_SOURCE
#include "copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define BOUNCE_BYTES (256u * 1024)
/* Every piece has at least a page. */
#define MAX_PIECES (BOUNCE_BYTES / MW_PAGE_BYTES)

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

static void fill_batch(struct batch *batch, const struct mw_copy *copy, struct cursor *at)
{
    batch->count = 0;
    batch->bytes = 0;
    while (at->index < copy->count && batch->bytes < BOUNCE_BYTES) {
        const struct mw_extent *extent = &copy->extents[at->index];
        uint64_t left = extent->bytes - at->offset;
        size_t room = BOUNCE_BYTES - batch->bytes;
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

int mw_copy_extents(struct mw_copy *copy)
{
    struct batch *batch = malloc(sizeof(*batch));
    struct cursor at = {0, 0};
    void *bounce = NULL;
    int rc = batch == NULL ? -ENOMEM : -posix_memalign(&bounce, MW_PAGE_BYTES, BOUNCE_BYTES);

    copy->copied = 0;
    copy->failed_index = 0;
    copy->failed_side = MW_SIDE_SOURCE;
    while (rc == 0 && at.index < copy->count) {
        fill_batch(batch, copy, &at);
        rc = copy_batch(copy, batch, bounce);
    }
    /* A container's bytes do not stay behind in the daemon's heap. */
    if (bounce != NULL) explicit_bzero(bounce, BOUNCE_BYTES);
    free(bounce);
    free(batch);
    return rc;
}
