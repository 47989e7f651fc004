/* SPDX-License-Identifier: GPL-2.0 */
#ifndef MWARP_INTERNAL_H
#define MWARP_INTERNAL_H

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/types.h>

#include "mwarp.h"

struct mw_table;

/* One extent of a call, and the position of its first page among all pages of the call. */
struct mw_run {
	u64 a;
	u64 b;
	u64 pages;
	u32 first;
};

/* Two folios of one size, or two pages, where they were found. A reference is held on both. */
struct mw_pair {
	struct folio *a;
	struct folio *b;
	pgoff_t ia;
	pgoff_t ib;
	u64 frame; /* as side a was named */
	u32 first; /* position in the call */
	u32 pages;
	u8 state; /* enum mwarp_page */
	bool locked;
	bool alike; /* heads of folios of one size: they can change places */
};

/* One call, from its extents to what became of each page. */
struct mw_call {
	struct address_space *ma;
	struct address_space *mb;
	struct mw_table *table; /* side a is named by this table's frames; or NULL */
	u32 flags;
	u32 pages;

	struct mw_run *runs;
	u32 run_count;

	struct mw_pair *pairs;
	u32 pair_count;
	u32 *order; /* room for the numbers of all pairs */
	u8 *status; /* for each page of the call */
};

/* The user's buffer for the status of pages: written to without a fault that could fail or wait. */
struct mw_report {
	struct page **pages;
	unsigned int count;
	unsigned int offset;
};

/* request.c: from user space and back */
struct file *mw_get_memory(int fd);
int mw_take_runs(u64 address, u32 count, struct mw_run **runs, u32 *pages);
int mw_check_runs(struct mw_run *runs, u32 count, u64 pages_of_a, u64 pages_of_b);
int mw_open_report(struct mw_report *report, u64 address, u32 bytes);
void mw_close_report(struct mw_report *report, const u8 *status, u32 bytes);
long mw_exchange_call(const struct mwarp_exchange *request, struct file *a, struct mw_table *table);

/* gather.c: find, lock and let go of the folios of a call */
int mw_gather(struct mw_call *call);
int mw_lock_pairs(struct mw_call *call);
void mw_unlock_pairs(struct mw_call *call);
void mw_put_pairs(struct mw_call *call);

/* unmap.c: nobody has the folios mapped, no CPU keeps them in its batches */
void mw_unmap_pairs(struct mw_call *call);
void mw_drain(struct folio *folio);
int mw_drain_init(void);
void mw_drain_exit(void);

/* swap.c: the exchange itself */
long mw_exchange(struct mw_call *call);

/* contents.c: pages that stay where they are */
u32 mw_exchange_contents(struct mw_call *call);

/* table.c */
long mw_table_create(const struct mwarp_table_create *request);
struct page *mw_table_page(struct mw_table *table, u64 frame);
void mw_table_take_out(struct mw_table *table, struct mw_call *call);

#endif
