// SPDX-License-Identifier: GPL-2.0
/*
 * The folios of a call: found, referenced, and locked all at once.
 *
 * Both inodes are locked by now (i_rwsem), which keeps out fallocate, truncate and write. A
 * folio that we hold a reference to, and that was locked once while we had it, stays where it
 * is in the page cache: whoever would swap it out, migrate, split or collapse it gives up
 * when it sees our reference.
 */
#include <linux/delay.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>

#include "internal.h"

#define MW_LOCK_ROUNDS 5

/* The page at @index, in memory and filled, with a reference; waits for swap, fills holes. */
static struct page *mw_read_page(struct address_space *mapping, pgoff_t index)
{
	return shmem_read_mapping_page_gfp(mapping, index, mapping_gfp_mask(mapping));
}

/* The page of side a; with a table, the one that it holds, wherever that is now. */
static struct page *mw_page_of_a(struct mw_call *call, u64 place)
{
	struct page *page;

	if (!call->table)
		return mw_read_page(call->ma, place);
	page = mw_table_page(call->table, place);
	if (!page)
		return ERR_PTR(-ENOENT);
	get_page(page);
	return page;
}

/* Whether the table has all of a large folio, in its order: then it holds a reference for each. */
static bool mw_table_has_all(struct mw_table *table, struct folio *folio, u64 frame)
{
	long nr = folio_nr_pages(folio), i;

	for (i = 0; i < nr; i++)
		if (mw_table_page(table, frame + i) != folio_page(folio, i))
			return false;
	return true;
}

/* Whether the two change places whole, with @room pages left of the extent. */
static bool mw_are_alike(struct mw_call *call, const struct mw_pair *pair, u64 room)
{
	if (!folio_test_large(pair->a) && !folio_test_large(pair->b))
		return true;
	if (folio_order(pair->a) != folio_order(pair->b) || room < folio_nr_pages(pair->a) ||
	    pair->ia != pair->a->index || pair->ib != pair->b->index)
		return false;
	return !call->table || mw_table_has_all(call->table, pair->a, pair->frame);
}

/* A page that cannot be read is left out; any other error ends the call. */
static long mw_no_page(const struct page *error, u8 *status)
{
	if (PTR_ERR(error) != -EIO)
		return PTR_ERR(error);
	*status = MWARP_PAGE_BAD;
	return 1;
}

/* Takes in one pair of @run, or why there is none. Returns its pages, or an error. */
static long mw_gather_pair(struct mw_call *call, const struct mw_run *run, u64 done)
{
	struct mw_pair *pair = &call->pairs[call->pair_count];
	u8 *status = &call->status[run->first + done];
	struct page *a, *b;
	struct folio *folio;

	a = mw_page_of_a(call, run->a + done);
	if (IS_ERR(a))
		return mw_no_page(a, status);
	folio = page_folio(a);
	/* Only truncation can have taken it away, and that waits for us. */
	if (READ_ONCE(folio->mapping) != call->ma) {
		folio_put(folio);
		*status = MWARP_PAGE_GONE;
		return 1;
	}
	b = mw_read_page(call->mb, run->b + done);
	if (IS_ERR(b)) {
		folio_put(folio);
		return mw_no_page(b, status);
	}
	*pair = (struct mw_pair){
		.a = folio,
		.b = page_folio(b),
		.ia = folio->index + folio_page_idx(folio, a),
		.ib = run->b + done,
		.frame = run->a + done,
		.first = run->first + done,
		.pages = 1,
	};
	pair->alike = mw_are_alike(call, pair, run->pages - done);
	if (pair->alike) {
		pair->pages = folio_nr_pages(pair->a);
	} else if (call->flags & MWARP_X_CONTENTS) {
		pair->state = MWARP_PAGE_LARGE;
	} else {
		*status = MWARP_PAGE_LARGE;
		folio_put(pair->a);
		folio_put(pair->b);
		return 1;
	}
	call->pair_count++;
	return pair->pages;
}

/* Fills call->pairs. What cannot change places is in call->status or in the state of its pair. */
int mw_gather(struct mw_call *call)
{
	u32 i, steps = 0;

	for (i = 0; i < call->run_count; i++) {
		u64 done = 0;

		while (done < call->runs[i].pages) {
			long got = mw_gather_pair(call, &call->runs[i], done);

			if (got < 0)
				return got;
			done += got;
			if (++steps % 64)
				continue;
			if (fatal_signal_pending(current))
				return -EINTR;
			cond_resched();
		}
	}
	return 0;
}

/* 0, or why a locked folio cannot leave its place. */
static u8 mw_fault_of(struct folio *folio, struct address_space *mapping, pgoff_t index)
{
	if (folio->mapping != mapping || folio->index != index)
		return MWARP_PAGE_GONE;
	if (folio_test_hwpoison(folio) ||
	    (folio_test_large(folio) && folio_test_has_hwpoisoned(folio)))
		return MWARP_PAGE_BAD;
	if (!folio_test_uptodate(folio) || !folio_test_swapbacked(folio) ||
	    folio_test_private(folio) || folio_test_swapcache(folio) || folio_test_writeback(folio))
		return MWARP_PAGE_LOCKED;
	/* Not the check that counts (frozen references are): it spares unmapping. */
	return folio_maybe_dma_pinned(folio) ? MWARP_PAGE_HELD : 0;
}

/* Whether it is decided: locked, or a state why not. */
static bool mw_lock_pair(struct mw_call *call, struct mw_pair *pair)
{
	u8 fault;

	if (!folio_trylock(pair->a))
		return false;
	if (!folio_trylock(pair->b)) {
		folio_unlock(pair->a);
		return false;
	}
	fault = mw_fault_of(pair->a, call->ma, pair->ia);
	if (!fault)
		fault = mw_fault_of(pair->b, call->mb, pair->ib);
	pair->state = fault;
	pair->locked = !fault;
	if (fault) {
		folio_unlock(pair->b);
		folio_unlock(pair->a);
	}
	return true;
}

/*
 * Locks the pairs that can change places. Never waits for one folio while it holds another:
 * whoever holds that one (collapsing, say, which locks a range by and by) may wait for ours.
 * Some pauses instead; what is locked even then has its reason in its state.
 */
int mw_lock_pairs(struct mw_call *call)
{
	bool again = true;
	int round;
	u32 i;

	for (round = 0; again && round < MW_LOCK_ROUNDS; round++) {
		if (round)
			usleep_range(100, 300);
		again = false;
		for (i = 0; i < call->pair_count; i++) {
			struct mw_pair *pair = &call->pairs[i];

			if (pair->locked || (pair->state && pair->state != MWARP_PAGE_LOCKED))
				continue;
			if (!mw_lock_pair(call, pair)) {
				pair->state = MWARP_PAGE_LOCKED;
				again = true;
			}
			if (i % 256 == 0)
				cond_resched();
		}
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}

void mw_unlock_pairs(struct mw_call *call)
{
	u32 i;

	for (i = 0; i < call->pair_count; i++) {
		struct mw_pair *pair = &call->pairs[i];

		if (!pair->locked)
			continue;
		folio_unlock(pair->b);
		folio_unlock(pair->a);
		pair->locked = false;
	}
}

/* Lets go of all, and says what became of each page. */
void mw_put_pairs(struct mw_call *call)
{
	u32 i;

	for (i = 0; i < call->pair_count; i++) {
		struct mw_pair *pair = &call->pairs[i];

		memset(&call->status[pair->first], pair->state, pair->pages);
		folio_put(pair->b);
		folio_put(pair->a);
		if (i % 256 == 0)
			cond_resched();
	}
}
