// SPDX-License-Identifier: GPL-2.0
/*
 * The mWarp table: guest frames of one VM, and the host pages behind them, held.
 *
 * A plain reference holds a page: reclaim does not swap it out and nothing migrates, splits
 * or collapses it. Truncation still takes it out of the file, and the exchange then finds it
 * gone. All goes with the descriptor, however its last owner ended.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "internal.h"

struct mw_table {
	struct mutex lock; /* of frames and count */
	struct file *source;
	struct xarray frames; /* struct page, with a reference each */
	u64 count;
};

/* The page of @frame, or NULL. The table is locked and keeps its reference. */
struct page *mw_table_page(struct mw_table *table, u64 frame)
{
	return xa_load(&table->frames, frame);
}

static void mw_drop(struct mw_table *table, u64 frame, u64 pages)
{
	u64 i;

	for (i = 0; i < pages; i++) {
		struct page *page = xa_erase(&table->frames, frame + i);

		if (!page)
			continue;
		put_page(page);
		table->count--;
	}
}

/* What has been exchanged is no longer the source's. */
void mw_table_take_out(struct mw_table *table, struct mw_call *call)
{
	u32 i;

	for (i = 0; i < call->pair_count; i++) {
		const struct mw_pair *pair = &call->pairs[i];

		if (pair->state == MWARP_PAGE_EXCHANGED || pair->state == MWARP_PAGE_CONTENTS)
			mw_drop(table, pair->frame, pair->pages);
		if (i % 256 == 0)
			cond_resched();
	}
}

static int mw_take_in(struct mw_table *table, u64 frame, u64 index)
{
	struct address_space *mapping = table->source->f_mapping;
	struct page *page;
	int error;

	page = shmem_read_mapping_page_gfp(mapping, index, mapping_gfp_mask(mapping));
	if (IS_ERR(page))
		return PTR_ERR(page);
	error = xa_insert(&table->frames, frame, page, GFP_KERNEL_ACCOUNT);
	if (!error) {
		table->count++;
		return 0;
	}
	put_page(page);
	return error == -EBUSY ? -EEXIST : error;
}

/* Takes in all of @run; on an error *@done says how much of it is there. */
static int mw_take_run(struct mw_table *table, const struct mw_run *run, u64 *done)
{
	int error = 0;

	for (*done = 0; *done < run->pages && !error; (*done)++) {
		error = mw_take_in(table, run->a + *done, run->b + *done);
		if (error)
			break;
		if (fatal_signal_pending(current))
			error = -EINTR;
		cond_resched();
	}
	return error;
}

static long mw_table_fill(struct mw_table *table, const struct mwarp_table_fill *request)
{
	struct mw_run *runs;
	u32 pages, i;
	u64 done = 0;
	int error;

	if (request->flags || request->reserved)
		return -EINVAL;
	error = mw_take_runs(request->extents, request->count, &runs, &pages);
	if (error)
		return error;
	mutex_lock(&table->lock);
	for (i = 0; i < request->count && !error; i++)
		error = mw_take_run(table, &runs[i], &done);
	if (error) {
		/* The last one looked at is there as far as @done, those before it whole. */
		mw_drop(table, runs[i - 1].a, done);
		while (--i > 0)
			mw_drop(table, runs[i - 1].a, runs[i - 1].pages);
	}
	if (!error)
		error = min_t(u64, table->count, INT_MAX);
	mutex_unlock(&table->lock);
	kvfree(runs);
	return error;
}

static long mw_table_exchange(struct mw_table *table, const struct mwarp_exchange *request)
{
	long result;

	if (request->a != -1)
		return -EINVAL;
	mutex_lock(&table->lock);
	result = mw_exchange_call(request, table->source, table);
	mutex_unlock(&table->lock);
	return result;
}

static long mw_table_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	void __user *from = (void __user *)argument;
	struct mwarp_table_fill fill;
	struct mwarp_exchange exchange;

	switch (command) {
	case MWARP_IOC_TABLE_FILL:
		if (copy_from_user(&fill, from, sizeof(fill)))
			return -EFAULT;
		return mw_table_fill(file->private_data, &fill);
	case MWARP_IOC_TABLE_EXCHANGE:
		if (copy_from_user(&exchange, from, sizeof(exchange)))
			return -EFAULT;
		return mw_table_exchange(file->private_data, &exchange);
	default:
		return -ENOTTY;
	}
}

static void mw_table_free(struct mw_table *table)
{
	unsigned long frame;
	struct page *page;

	xa_for_each(&table->frames, frame, page) {
		put_page(page);
		cond_resched();
	}
	xa_destroy(&table->frames);
	mutex_destroy(&table->lock);
	fput(table->source);
	kfree(table);
}

static int mw_table_release(struct inode *inode, struct file *file)
{
	mw_table_free(file->private_data);
	return 0;
}

static const struct file_operations mw_table_operations = {
	.owner = THIS_MODULE,
	.release = mw_table_release,
	.unlocked_ioctl = mw_table_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

/* Returns the descriptor of a new table. */
long mw_table_create(const struct mwarp_table_create *request)
{
	struct mw_table *table;
	struct file *source;
	int fd;

	if (request->flags || request->reserved)
		return -EINVAL;
	source = mw_get_memory(request->file);
	if (IS_ERR(source))
		return PTR_ERR(source);
	table = kzalloc(sizeof(*table), GFP_KERNEL_ACCOUNT);
	if (!table) {
		fput(source);
		return -ENOMEM;
	}
	mutex_init(&table->lock);
	xa_init(&table->frames);
	table->source = source;
	fd = anon_inode_getfd("[mwarp-table]", &mw_table_operations, table, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		mw_table_free(table);
	return fd;
}
