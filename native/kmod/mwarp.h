/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/mwarp: pages of two shared memory files change places.
 *
 * A page at index i of one file and a page at index j of the other change owners: each file
 * has afterwards what the other had, at the same offsets as ever, and no byte was copied.
 * Whoever maps a file, or has it mapped in a KVM guest, sees the new page at the next touch.
 * Neither file gets larger or smaller.
 *
 * All structures are the same for 32 and 64 bits. What is marked reserved must be zero; an
 * unknown flag is refused. A call that returns an error has exchanged nothing: whatever it
 * had begun has been put back.
 */
#ifndef MWARP_UAPI_H
#define MWARP_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MWARP_VERSION	1
/* Pages that one call may name: 1 GiB. A longer list is as many calls. */
#define MWARP_MAX_PAGES 262144u

struct mwarp_info {
	__u32 version; /* MWARP_VERSION of the module */
	__u32 page_bytes;
	__u64 max_pages; /* of one call */
	__u64 flags;	 /* flags that MWARP_IOC_EXCHANGE knows */
	__u64 reserved;
};

/* A run of pages, by page number: in file a (or, in a table, by guest frame) and in file b. */
struct mwarp_extent {
	__u64 a;
	__u64 b;
	__u64 pages;
};

/* Exchange all pages that are named, or none: EBUSY when there is one that cannot be exchanged. */
#define MWARP_X_WHOLE	 0x1u
/*
 * Pages that cannot change places change contents instead (two copies): for taking an
 * exchange back, which then leaves out no page. Without it such pages stay as they are, for
 * the caller to copy.
 */
#define MWARP_X_CONTENTS 0x2u
#define MWARP_X_FLAGS	 (MWARP_X_WHOLE | MWARP_X_CONTENTS)

/*
 * Both files must be shared memory (memfd, tmpfs; not hugetlb), open for reading and writing,
 * not sealed against writing, and not be the same one. Extents lie within both files; no page
 * is named twice. Holes are filled with zeros, pages in swap are read in.
 *
 * @status: one byte for each page in the order of the extents, enum mwarp_page. It is written
 * whenever the call got as far as looking at pages, with an error, too: EBUSY has its reasons
 * there.
 */
struct mwarp_exchange {
	__u32 flags; /* MWARP_X_* */
	__s32 a;     /* descriptor; -1 in MWARP_IOC_TABLE_EXCHANGE */
	__s32 b;
	__u32 count;   /* extents */
	__u64 extents; /* address of struct mwarp_extent[count] */
	__u64 status;  /* address of __u8[sum of pages] */
	__u64 reserved[2];
};

enum mwarp_page {
	MWARP_PAGE_UNTOUCHED = 0, /* the call failed before its turn, or took it back */
	MWARP_PAGE_EXCHANGED = 1,
	MWARP_PAGE_CONTENTS = 2, /* MWARP_X_CONTENTS: the contents were exchanged */
	/* Not exchanged, because one of the two pages: */
	MWARP_PAGE_HELD = 3,   /* is used by somebody (pinned, in a pipe, being read) */
	MWARP_PAGE_LARGE = 4,  /* is part of a large folio without a counterpart */
	MWARP_PAGE_LOCKED = 5, /* stayed locked: in motion, being reclaimed */
	MWARP_PAGE_GONE = 6,   /* is no longer in the file (with a table) */
	MWARP_PAGE_BAD = 7,    /* cannot be read: swap failed or the memory is poisoned */
};

/*
 * A table: guest frames of one VM, each with the host page that is behind it, held (neither
 * swapped out nor migrated) until it is exchanged or the table's descriptor is closed, by
 * whomever. A descriptor can be handed to another process.
 */
struct mwarp_table_create {
	__s32 file;  /* descriptor of the source's memory */
	__u32 flags; /* none yet */
	__u64 reserved;
};

/* Extents: a is the first guest frame, b the page in the file. All are taken in, or none. */
struct mwarp_table_fill {
	__u64 extents;
	__u32 count;
	__u32 flags; /* none yet */
	__u64 reserved;
};

#define MWARP_IOC_MAGIC 0xBC

/* On /dev/mwarp. */
#define MWARP_IOC_INFO	       _IOR(MWARP_IOC_MAGIC, 0, struct mwarp_info)
/* Returns how many pages were exchanged. */
#define MWARP_IOC_EXCHANGE     _IOW(MWARP_IOC_MAGIC, 1, struct mwarp_exchange)
/* Returns the descriptor of a new, empty table. */
#define MWARP_IOC_TABLE_CREATE _IOW(MWARP_IOC_MAGIC, 2, struct mwarp_table_create)

/* On a table. */
/* Returns how many frames the table has afterwards, at most INT_MAX. */
#define MWARP_IOC_TABLE_FILL	 _IOW(MWARP_IOC_MAGIC, 16, struct mwarp_table_fill)
/* As MWARP_IOC_EXCHANGE, by guest frames. What was exchanged is no longer in the table. */
#define MWARP_IOC_TABLE_EXCHANGE _IOW(MWARP_IOC_MAGIC, 17, struct mwarp_exchange)

#endif
