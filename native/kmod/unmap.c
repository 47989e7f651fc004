// SPDX-License-Identifier: GPL-2.0
/*
 * Takes locked folios out of all page tables, so that no reference is left but the page
 * cache's and ours.
 *
 * unmap_mapping_pages() is what truncation uses: it goes through every mapping of the file,
 * also those that fork is just making, flushes the TLBs and calls the MMU notifiers, by which
 * KVM drops the pages from its own tables. Private copies of pages (MAP_PRIVATE) stay. Nobody
 * maps the folios again while they are locked.
 */
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagevec.h>
#include <linux/percpu.h>
#include <linux/sort.h>
#include <linux/workqueue.h>

#include "internal.h"

static pgoff_t mw_index(const struct mw_pair *pair, bool of_b)
{
	return of_b ? pair->ib : pair->ia;
}

static int mw_compare_ia(const void *left, const void *right, const void *pairs)
{
	pgoff_t l = ((const struct mw_pair *)pairs)[*(const u32 *)left].ia;
	pgoff_t r = ((const struct mw_pair *)pairs)[*(const u32 *)right].ia;

	return l < r ? -1 : l > r;
}

static int mw_compare_ib(const void *left, const void *right, const void *pairs)
{
	pgoff_t l = ((const struct mw_pair *)pairs)[*(const u32 *)left].ib;
	pgoff_t r = ((const struct mw_pair *)pairs)[*(const u32 *)right].ib;

	return l < r ? -1 : l > r;
}

/*
 * The pairs in the order of one side, where they are not in it already: neighbours are then
 * unmapped at once, which is most of the cost of scattered pages. NULL: as they are.
 */
static const u32 *mw_order_of(struct mw_call *call, bool of_b)
{
	u32 i;

	for (i = 1; i < call->pair_count; i++)
		if (mw_index(&call->pairs[i], of_b) < mw_index(&call->pairs[i - 1], of_b))
			break;
	if (i >= call->pair_count)
		return NULL;
	for (i = 0; i < call->pair_count; i++)
		call->order[i] = i;
	sort_r(call->order, call->pair_count, sizeof(*call->order),
	       of_b ? mw_compare_ib : mw_compare_ia, NULL, call->pairs);
	return call->order;
}

static void mw_unmap_side(struct mw_call *call, bool of_b)
{
	struct address_space *mapping = of_b ? call->mb : call->ma;
	const u32 *order = mw_order_of(call, of_b);
	pgoff_t start = 0, end = 0;
	bool mapped = false;
	u32 i;

	for (i = 0; i < call->pair_count; i++) {
		struct mw_pair *pair = &call->pairs[order ? order[i] : i];

		if (!pair->locked)
			continue;
		if (mw_index(pair, of_b) != end) {
			if (mapped)
				unmap_mapping_pages(mapping, start, end - start, false);
			start = mw_index(pair, of_b);
			mapped = false;
		}
		end = mw_index(pair, of_b) + pair->pages;
		mapped |= folio_mapped(of_b ? pair->b : pair->a);
		if (i % 256 == 0)
			cond_resched();
	}
	if (mapped)
		unmap_mapping_pages(mapping, start, end - start, false);
}

void mw_unmap_pairs(struct mw_call *call)
{
	mw_unmap_side(call, false);
	mw_unmap_side(call, true);
}

struct mw_drain_work {
	struct work_struct work;
	struct folio *folio;
};

static DEFINE_PER_CPU(struct mw_drain_work, mw_drain_works);
static DEFINE_MUTEX(mw_drain_lock);
static struct workqueue_struct *mw_drain_queue;

/*
 * Each CPU keeps references of its own to folios that are to be put on a list of the LRU, or
 * off it. lru_add_drain_all() is not exported; releasing a batch of folios drains those of the
 * CPU it happens on.
 */
static void mw_drain_here(struct work_struct *work)
{
	struct folio *folio = container_of(work, struct mw_drain_work, work)->folio;
	struct folio_batch batch;

	folio_batch_init(&batch);
	folio_get(folio);
	folio_batch_add(&batch, folio);
	folio_batch_release(&batch);
}

/*
 * On all CPUs that are there. @folio: any that the caller has a reference to. Allocates nothing
 * and takes no lock of CPU hotplug: folios are locked meanwhile. A CPU that goes away empties
 * its batches itself, and its work is done by another.
 */
void mw_drain(struct folio *folio)
{
	int cpu;

	mutex_lock(&mw_drain_lock);
	for_each_online_cpu(cpu) {
		struct mw_drain_work *work = per_cpu_ptr(&mw_drain_works, cpu);

		work->folio = folio;
		queue_work_on(cpu, mw_drain_queue, &work->work);
	}
	for_each_possible_cpu(cpu)
		flush_work(&per_cpu_ptr(&mw_drain_works, cpu)->work);
	mutex_unlock(&mw_drain_lock);
}

int mw_drain_init(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		INIT_WORK(&per_cpu_ptr(&mw_drain_works, cpu)->work, mw_drain_here);
	/* With a thread of its own for want of memory: folios are locked while it is waited for. */
	mw_drain_queue = alloc_workqueue("mwarp", WQ_MEM_RECLAIM, 0);
	return mw_drain_queue ? 0 : -ENOMEM;
}

void mw_drain_exit(void)
{
	destroy_workqueue(mw_drain_queue);
}
