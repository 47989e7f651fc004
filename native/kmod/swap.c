// SPDX-License-Identifier: GPL-2.0
/*
 * The exchange: two folios change places in the page caches of their files.
 *
 * What makes it sound. Both folios are locked and unmapped, and their references are frozen
 * at exactly those of the page cache and ours (and of the table): nobody else has a pointer
 * to them that would outlive the exchange. A lookup without locks that saw the old entry
 * finds the reference count zero or, afterwards, the entry changed, and tries again. The
 * locks of both page caches are held, so that neither is ever seen with a folio that says it
 * belongs to the other.
 *
 * What needs no change. Each page cache has as many pages as before (nrpages, i_blocks). The
 * folio keeps its flags: dirty, uptodate, referenced, its place on its LRU list, its zone and
 * node. It keeps its charge, too: taking a folio over into another memory cgroup would mean
 * taking it off the LRU list of the old one, and neither that nor mem_cgroup_migrate() is
 * exported. The cgroups' counters stay right in sum, as each gets as many pages as it gives;
 * each page is given back to the cgroup that it was charged to.
 */
#include <linux/page_ref.h>
#include <linux/pagemap.h>
#include <linux/xarray.h>

#include "internal.h"

/* What is done at a time without interrupts; what of it an exchange is, and a look at a pair. */
#define MW_BATCH    256
#define MW_EXCHANGE 16
#define MW_LOOK	    1

static void mw_lock_caches(struct mw_call *call) __acquires(&call->ma->i_pages.xa_lock)
	__acquires(&call->mb->i_pages.xa_lock)
{
	struct address_space *first = min(call->ma, call->mb), *second = max(call->ma, call->mb);

	xa_lock_irq(&first->i_pages);
	spin_lock_nested(&second->i_pages.xa_lock, SINGLE_DEPTH_NESTING);
}

static void mw_unlock_caches(struct mw_call *call) __releases(&call->ma->i_pages.xa_lock)
	__releases(&call->mb->i_pages.xa_lock)
{
	struct address_space *first = min(call->ma, call->mb), *second = max(call->ma, call->mb);

	spin_unlock(&second->i_pages.xa_lock);
	xa_unlock_irq(&first->i_pages);
}

/* Lets others have the caches when enough has been done since they last could. */
static void mw_breathe(struct mw_call *call, u32 *done, u32 more)
{
	*done += more;
	if (*done < MW_BATCH)
		return;
	*done = 0;
	mw_unlock_caches(call);
	cond_resched();
	mw_lock_caches(call);
}

static bool mw_is_at(struct address_space *mapping, pgoff_t index, const struct folio *folio)
{
	XA_STATE(xas, &mapping->i_pages, index);

	return xas_load(&xas) == folio;
}

/* Replaces the entry, of the same size, that is there: no memory is needed for it. */
static void mw_place(struct address_space *mapping, pgoff_t index, struct folio *folio)
{
	XA_STATE(xas, &mapping->i_pages, index);

	xas_set_order(&xas, index, folio_order(folio));
	xas_store(&xas, folio);
	WARN_ON_ONCE(xas_error(&xas));
	folio->mapping = mapping;
	folio->index = index;
}

static bool mw_change_places(struct mw_call *call, struct mw_pair *pair)
{
	int refs_b = pair->pages + 1, refs_a = refs_b + (call->table ? pair->pages : 0);
	bool here;

	if (!folio_ref_freeze(pair->a, refs_a))
		return false;
	if (!folio_ref_freeze(pair->b, refs_b)) {
		folio_ref_unfreeze(pair->a, refs_a);
		return false;
	}
	here = mw_is_at(call->ma, pair->ia, pair->a) && mw_is_at(call->mb, pair->ib, pair->b);
	if (!WARN_ON_ONCE(!here)) {
		mw_place(call->ma, pair->ia, pair->b);
		mw_place(call->mb, pair->ib, pair->a);
	}
	folio_ref_unfreeze(pair->b, refs_b);
	folio_ref_unfreeze(pair->a, refs_a);
	return here;
}

/* Exchanges what is locked and can be, of what has not been. Returns how many pairs are left. */
static u32 mw_exchange_pass(struct mw_call *call)
{
	u32 left = 0, i, done = 0;

	mw_lock_caches(call);
	for (i = 0; i < call->pair_count; i++) {
		struct mw_pair *pair = &call->pairs[i];

		if (!pair->locked || pair->state == MWARP_PAGE_EXCHANGED) {
			mw_breathe(call, &done, MW_LOOK);
			continue;
		}
		if (mw_change_places(call, pair)) {
			pair->state = MWARP_PAGE_EXCHANGED;
		} else {
			pair->state = MWARP_PAGE_HELD;
			left++;
		}
		mw_breathe(call, &done, MW_EXCHANGE);
	}
	mw_unlock_caches(call);
	return left;
}

/*
 * Puts back what was exchanged. The folios have been locked all the time: whoever got a
 * reference meanwhile has done nothing yet but wait for the lock, and will see where the
 * folio belongs when it gets it.
 */
static void mw_take_back(struct mw_call *call)
{
	u32 i, done = 0;

	mw_lock_caches(call);
	for (i = 0; i < call->pair_count; i++) {
		struct mw_pair *pair = &call->pairs[i];

		if (pair->state != MWARP_PAGE_EXCHANGED) {
			mw_breathe(call, &done, MW_LOOK);
			continue;
		}
		mw_place(call->ma, pair->ia, pair->a);
		mw_place(call->mb, pair->ib, pair->b);
		pair->state = MWARP_PAGE_UNTOUCHED;
		mw_breathe(call, &done, MW_EXCHANGE);
	}
	mw_unlock_caches(call);
}

/* A clean page of shared memory is one that reclaim may drop, as the hole that it was made from. */
static u32 mw_mark_exchanged(struct mw_call *call)
{
	u32 pages = 0, i;

	for (i = 0; i < call->pair_count; i++) {
		struct mw_pair *pair = &call->pairs[i];

		if (pair->state != MWARP_PAGE_EXCHANGED)
			continue;
		folio_mark_dirty(pair->a);
		folio_mark_dirty(pair->b);
		pages += pair->pages;
	}
	return pages;
}

static struct mw_pair *mw_any_locked(struct mw_call *call)
{
	u32 i;

	for (i = 0; i < call->pair_count; i++)
		if (call->pairs[i].locked)
			return &call->pairs[i];
	return NULL;
}

/* With all folios locked that can be. Returns how many pages were exchanged. */
static u32 mw_exchange_locked(struct mw_call *call)
{
	struct mw_pair *any = mw_any_locked(call);

	if (!any)
		return 0;
	mw_unmap_pairs(call);
	if (mw_exchange_pass(call)) {
		mw_drain(any->a);
		mw_exchange_pass(call);
	}
	return mw_mark_exchanged(call);
}

/* Whether the flags leave it at what has been found by now: an error, or 0. */
static int mw_verdict(struct mw_call *call)
{
	bool left_out = false, lost = false;
	u32 i;

	for (i = 0; i < call->pages; i++) {
		left_out |= call->status[i] != MWARP_PAGE_UNTOUCHED;
		lost |= call->status[i] == MWARP_PAGE_BAD || call->status[i] == MWARP_PAGE_GONE;
	}
	for (i = 0; i < call->pair_count; i++) {
		u8 state = call->pairs[i].state;

		left_out |= state != MWARP_PAGE_UNTOUCHED && state != MWARP_PAGE_EXCHANGED;
		lost |= state == MWARP_PAGE_BAD || state == MWARP_PAGE_GONE;
	}
	if (call->flags & MWARP_X_CONTENTS && lost)
		return -EIO;
	return call->flags & MWARP_X_WHOLE && left_out ? -EBUSY : 0;
}

/* With both inodes locked. Returns how many pages were exchanged, or an error and none was. */
long mw_exchange(struct mw_call *call)
{
	u32 pages = 0;
	int error;

	error = mw_gather(call);
	if (!error)
		error = mw_verdict(call);
	if (!error)
		error = mw_lock_pairs(call);
	if (!error)
		error = mw_verdict(call);
	if (!error) {
		pages = mw_exchange_locked(call);
		error = mw_verdict(call);
		if (error)
			mw_take_back(call);
	}
	mw_unlock_pairs(call);
	if (!error && call->flags & MWARP_X_CONTENTS)
		pages += mw_exchange_contents(call);
	if (!error && call->table)
		mw_table_take_out(call->table, call);
	mw_put_pairs(call);
	return error ? error : pages;
}
