/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protocol between mWarp's daemon and the library preloaded into a VMM (src/vm/vmm-library.ts speaks the
 * other side).
 *
 * Transport: a UNIX stream socket named by MWARP_VMM_SOCKET, mode 0600. Every message is one fixed header and
 * a body of `body_bytes` bytes. All integers little endian, all structures without padding. Requests of one
 * connection are answered in order, each with exactly one reply that repeats `type` and `id`. `error` is 0 or
 * a negative errno.
 *
 *   HELLO    body: none            reply: struct mw_hello
 *   OPEN     body: path, no NUL    reply: struct mw_file        opened O_RDWR; the handle is the connection's
 *   CLOSE    body: u32 handle      reply: none
 *   REGION   body: struct mw_region  reply: none                tells where guest RAM lies; the same range
 * again is fine MAP      body: count * struct mw_extent  reply: struct mw_map_result
 *
 * MAP replaces what backs each extent, in order. Nothing is touched unless every extent is valid. When one
 * mmap fails, that extent and the ones before it are mapped back to (old_handle, old_offset), last first;
 * `index` and `error` say which failed and why. `undo_error` is not 0 when even that failed: the memory of
 * the VM is then damaged.
 *
 * Handles live as long as their connection, so that a daemon that dies pins no other VM's memory.
 */
#ifndef MWARP_VMM_PROTOCOL_H
#define MWARP_VMM_PROTOCOL_H

#include <stdint.h>

#define MW_MAGIC       0x5657574du /* "MWWV" */
#define MW_VERSION     1
#define MW_MAX_EXTENTS 100000u
#define MW_MAX_HANDLES 256u
#define MW_MAX_REGIONS 16u
#define MW_MAX_PATH    255u
#define MW_NO_HANDLE   0xffffffffu

enum mw_type { MW_HELLO = 1, MW_OPEN = 2, MW_CLOSE = 3, MW_REGION = 4, MW_MAP = 5 };

struct mw_header {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t id;
    int32_t error;  /* replies only; 0 in requests */
    uint32_t count; /* MAP: extents in the body */
    uint32_t body_bytes;
};

struct mw_hello {
    uint32_t pid;
    uint32_t max_extents;
    uint32_t max_handles;
    uint32_t regions; /* told so far */
};

struct mw_file {
    uint32_t handle;
    uint32_t page_bytes; /* granularity of offsets and lengths: the huge page size on hugetlbfs */
    uint32_t device_major;
    uint32_t device_minor;
    uint64_t inode;
    uint64_t bytes;
};

struct mw_region {
    uint64_t hva;
    uint64_t bytes;
};

struct mw_extent {
    uint64_t hva;
    uint64_t bytes;
    uint64_t offset;
    uint64_t old_offset;
    uint32_t handle;
    uint32_t old_handle;
};

struct mw_map_result {
    uint32_t index; /* the extent that failed, or the number mapped */
    int32_t undo_error;
};

_Static_assert(sizeof(struct mw_header) == 24, "header layout");
_Static_assert(sizeof(struct mw_hello) == 16, "hello layout");
_Static_assert(sizeof(struct mw_file) == 32, "file layout");
_Static_assert(sizeof(struct mw_extent) == 40, "extent layout");

#endif
