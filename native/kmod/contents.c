// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that cannot change places, because somebody holds them, change contents. Whoever
 * holds a page of a file then goes on holding that page of that file. Two copies a page: for
 * taking back an exchange.
 */
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/string.h>

#include "internal.h"

#define MW_PIECE 256

static void mw_swap_pages(struct page *a, struct page *b)
{
	char *pa = kmap_local_page(a), *pb = kmap_local_page(b);
	char kept[MW_PIECE];
	size_t at;

	for (at = 0; at < PAGE_SIZE; at += MW_PIECE) {
		memcpy(kept, pa + at, MW_PIECE);
		memcpy(pa + at, pb + at, MW_PIECE);
		memcpy(pb + at, kept, MW_PIECE);
	}
	kunmap_local(pb);
	kunmap_local(pa);
	flush_dcache_page(a);
	flush_dcache_page(b);
}

static bool mw_is_in(struct folio *folio, struct address_space *mapping, pgoff_t index)
{
	return folio->mapping == mapping && index - folio->index < folio_nr_pages(folio);
}

static bool mw_exchange_pair(struct mw_call *call, struct mw_pair *pair)
{
	bool swapped = false;
	u32 i;

	/*
	 * One folio of either file at most, and calls that have a file in common wait for
	 * each other by its inode: no circle of waiting can come about.
	 */
	folio_lock(pair->a);
	folio_lock(pair->b);
	/* Our references have kept them there; poisoned memory is taken out all the same. */
	if (mw_is_in(pair->a, call->ma, pair->ia) && mw_is_in(pair->b, call->mb, pair->ib)) {
		/* Nobody writes to what is mapped nowhere, and nobody maps what is locked. */
		if (folio_mapped(pair->a))
			unmap_mapping_pages(call->ma, pair->ia, pair->pages, false);
		if (folio_mapped(pair->b))
			unmap_mapping_pages(call->mb, pair->ib, pair->pages, false);
		for (i = 0; i < pair->pages; i++)
			mw_swap_pages(folio_file_page(pair->a, pair->ia + i),
				      folio_file_page(pair->b, pair->ib + i));
		folio_mark_dirty(pair->a);
		folio_mark_dirty(pair->b);
		swapped = true;
	}
	folio_unlock(pair->b);
	folio_unlock(pair->a);
	return swapped;
}

/* All pairs that have not changed places, with no folio locked. Returns the number of pages. */
u32 mw_exchange_contents(struct mw_call *call)
{
	u32 pages = 0, i;

	for (i = 0; i < call->pair_count; i++) {
		struct mw_pair *pair = &call->pairs[i];

		if (pair->state == MWARP_PAGE_EXCHANGED)
			continue;
		if (mw_exchange_pair(call, pair)) {
			pair->state = MWARP_PAGE_CONTENTS;
			pages += pair->pages;
		} else {
			pair->state = MWARP_PAGE_BAD;
		}
		cond_resched();
	}
	return pages;
}
