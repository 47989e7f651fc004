/* SPDX-License-Identifier: Apache-2.0 */
/* What the library knows of the VMM's guest RAM and of opened files, and the one thing it does with them. */
#ifndef MWARP_VMM_MEMORY_H
#define MWARP_VMM_MEMORY_H

#include "protocol.h"

#include <stdbool.h>
#include <sys/types.h>

/* Nothing of this library may shadow a symbol of the VMM. */
#pragma GCC visibility push(hidden)

/* Files opened for one connection. */
struct mw_files {
    struct {
        int fd; /* -1: free */
        uint32_t page_bytes;
        uint64_t bytes;
    } entry[MW_MAX_HANDLES];
};

void mw_files_init(struct mw_files *files);
void mw_files_close_all(struct mw_files *files);
/* Opens `path` and fills `out`. Returns 0 or a negative errno. */
int mw_files_open(struct mw_files *files, const char *path, struct mw_file *out);
int mw_files_close(struct mw_files *files, uint32_t handle);

/* Accepts a range that shared, writable file mappings cover wholly. Returns 0 or a negative errno. */
int mw_region_add(uint64_t hva, uint64_t bytes);
uint32_t mw_region_count(void);

/* Validates all, then maps all or nothing. Returns 0 or a negative errno, and says in `result` how far it
 * got. */
int mw_map(const struct mw_files *files, const struct mw_extent *extents, uint32_t count,
           struct mw_map_result *result);

/* Whether anything was ever exchanged in this process. */
bool mw_was_exchanged(void);

/* A piece of guest RAM, found by where it lay in the VMM's own memory file before the first exchange. */
struct mw_file_range {
    uint64_t offset;
    uint64_t bytes;
    uint64_t hva;
};

/* The first piece of guest RAM in [offset, offset + bytes) of the file; false when there is none. */
bool mw_find_in_file(dev_t device, ino_t inode, uint64_t offset, uint64_t bytes, struct mw_file_range *range);

#pragma GCC visibility pop

#endif
