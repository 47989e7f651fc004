// SPDX-License-Identifier: GPL-2.0
/*
 * What user space asks for, checked before anything is looked at; and the way back, which
 * cannot fail.
 */
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "internal.h"

/* The file behind @fd, a reference of the caller's, if its pages can be exchanged at all. */
struct file *mw_get_memory(int fd)
{
	struct file *file = fget(fd);
	int error = 0;

	if (!file)
		return ERR_PTR(-EBADF);
	/*
	 * Hugetlbfs fails here: taking a page of it out of the page cache needs the fault
	 * mutex table, which is not exported. So do the files of stacked file systems, which
	 * are locked in another inode.
	 */
	if (!S_ISREG(file_inode(file)->i_mode) || file->f_mapping != file_inode(file)->i_mapping ||
	    !shmem_mapping(file->f_mapping))
		error = -EOPNOTSUPP;
	else if (!(file->f_mode & FMODE_READ) || !(file->f_mode & FMODE_WRITE))
		error = -EBADF;
	if (!error)
		return file;
	fput(file);
	return ERR_PTR(error);
}

/* Copies the extents at @address. On success the caller has to kvfree *@runs. */
int mw_take_runs(u64 address, u32 count, struct mw_run **runs, u32 *pages)
{
	const struct mwarp_extent __user *from = u64_to_user_ptr(address);
	struct mwarp_extent extent;
	struct mw_run *taken;
	u64 sum = 0;
	u32 i;

	if (!count || count > MWARP_MAX_PAGES)
		return -EINVAL;
	taken = kvmalloc_array(count, sizeof(*taken), GFP_KERNEL_ACCOUNT);
	if (!taken)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		if (copy_from_user(&extent, from + i, sizeof(extent))) {
			kvfree(taken);
			return -EFAULT;
		}
		if (!extent.pages || extent.pages > MWARP_MAX_PAGES - sum ||
		    extent.a + extent.pages < extent.a || extent.b + extent.pages < extent.b) {
			kvfree(taken);
			return -EINVAL;
		}
		taken[i] = (struct mw_run){ extent.a, extent.b, extent.pages, (u32)sum };
		sum += extent.pages;
	}
	*runs = taken;
	*pages = (u32)sum;
	return 0;
}

static int mw_compare_a(const void *left, const void *right)
{
	const struct mw_run *l = left, *r = right;

	return l->a < r->a ? -1 : l->a > r->a;
}

static int mw_compare_b(const void *left, const void *right)
{
	const struct mw_run *l = left, *r = right;

	return l->b < r->b ? -1 : l->b > r->b;
}

static u64 mw_start(const struct mw_run *run, bool of_b)
{
	return of_b ? run->b : run->a;
}

static bool mw_is_rising(const struct mw_run *runs, u32 count, bool of_b)
{
	u32 i;

	for (i = 1; i < count; i++)
		if (mw_start(&runs[i], of_b) < mw_start(&runs[i - 1], of_b) + runs[i - 1].pages)
			return false;
	return true;
}

/*
 * No page is named twice, and none lies at @pages_of_a of side a or beyond, or at @pages_of_b
 * of side b. Leaves the runs in the order of side a.
 */
int mw_check_runs(struct mw_run *runs, u32 count, u64 pages_of_a, u64 pages_of_b)
{
	u32 i;

	for (i = 0; i < count; i++)
		if (runs[i].a + runs[i].pages > pages_of_a ||
		    runs[i].b + runs[i].pages > pages_of_b)
			return -EINVAL;
	if (!mw_is_rising(runs, count, true)) {
		sort(runs, count, sizeof(*runs), mw_compare_b, NULL);
		if (!mw_is_rising(runs, count, true))
			return -EINVAL;
	}
	if (!mw_is_rising(runs, count, false)) {
		sort(runs, count, sizeof(*runs), mw_compare_a, NULL);
		if (!mw_is_rising(runs, count, false))
			return -EINVAL;
	}
	return 0;
}

/*
 * Pins the @bytes at @address. A copy_to_user() at the end would not do: it may fail, when
 * all has been exchanged and can no longer be put back; or wait, with folios locked, for a
 * fault that waits for us.
 */
int mw_open_report(struct mw_report *report, u64 address, u32 bytes)
{
	unsigned int count;
	int pinned;

	if (address != (unsigned long)address || !access_ok(u64_to_user_ptr(address), bytes))
		return -EFAULT;
	report->offset = offset_in_page(address);
	count = DIV_ROUND_UP(report->offset + bytes, PAGE_SIZE);
	report->pages = kvmalloc_array(count, sizeof(*report->pages), GFP_KERNEL_ACCOUNT);
	if (!report->pages)
		return -ENOMEM;
	pinned = pin_user_pages_fast(address & PAGE_MASK, count, FOLL_WRITE, report->pages);
	if (pinned == count) {
		report->count = count;
		return 0;
	}
	if (pinned > 0)
		unpin_user_pages(report->pages, pinned);
	kvfree(report->pages);
	return pinned == -EINTR ? -EINTR : -EFAULT;
}

/* Writes @status and lets go of the buffer. */
void mw_close_report(struct mw_report *report, const u8 *status, u32 bytes)
{
	unsigned int at = report->offset, i;

	for (i = 0; i < report->count; i++) {
		unsigned int piece = min_t(unsigned int, bytes, PAGE_SIZE - at);

		memcpy_to_page(report->pages[i], at, status, piece);
		status += piece;
		bytes -= piece;
		at = 0;
	}
	unpin_user_pages_dirty_lock(report->pages, report->count, true);
	kvfree(report->pages);
}

/* With the inode locked: nobody can seal, truncate or punch it. */
static int mw_check_file(struct inode *inode)
{
	if (SHMEM_I(inode)->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	if (IS_IMMUTABLE(inode) || IS_APPEND(inode))
		return -EPERM;
	return 0;
}

static u64 mw_pages_of(struct inode *inode)
{
	return DIV_ROUND_UP_ULL(i_size_read(inode), PAGE_SIZE);
}

static long mw_exchange_files(struct mw_call *call)
{
	struct inode *a = call->ma->host, *b = call->mb->host;
	long result;

	/* By address, whichever is a: calls with the files the other way round wait in order. */
	lock_two_nondirectories(a, b);
	result = mw_check_file(a);
	if (!result)
		result = mw_check_file(b);
	/*
	 * A folio on the list of unevictable ones because of its file (SHM_LOCK, tmpfs
	 * without swap) would stay there in a file that can be swapped, and the other way
	 * round.
	 */
	if (!result && mapping_unevictable(call->ma) != mapping_unevictable(call->mb))
		result = -EINVAL;
	if (!result)
		result = mw_check_runs(call->runs, call->run_count,
				       call->table ? U64_MAX : mw_pages_of(a), mw_pages_of(b));
	if (!result)
		result = mw_exchange(call);
	if (result > 0) {
		mw_touch_inode(a);
		mw_touch_inode(b);
	}
	unlock_two_nondirectories(a, b);
	return result;
}

/* @a: the file of side a. Returns how many pages were exchanged, or an error, and then none was. */
long mw_exchange_call(const struct mwarp_exchange *request, struct file *a, struct mw_table *table)
{
	struct mw_call call = { .ma = a->f_mapping, .table = table, .flags = request->flags };
	struct mw_report report;
	struct file *b;
	long result;

	if (request->flags & ~MWARP_X_FLAGS || request->flags == MWARP_X_FLAGS ||
	    request->reserved[0] || request->reserved[1])
		return -EINVAL;
	b = mw_get_memory(request->b);
	if (IS_ERR(b))
		return PTR_ERR(b);
	call.mb = b->f_mapping;
	result = call.ma == call.mb ? -EINVAL : 0;
	if (!result)
		result = mw_take_runs(request->extents, request->count, &call.runs, &call.pages);
	if (result)
		goto put_b;
	call.run_count = request->count;
	result = -ENOMEM;
	call.status = kvzalloc(call.pages, GFP_KERNEL_ACCOUNT);
	call.pairs = kvmalloc_array(call.pages, sizeof(*call.pairs), GFP_KERNEL_ACCOUNT);
	call.order = kvmalloc_array(call.pages, sizeof(*call.order), GFP_KERNEL_ACCOUNT);
	if (call.status && call.pairs && call.order)
		result = mw_open_report(&report, request->status, call.pages);
	if (!result) {
		result = mw_exchange_files(&call);
		mw_close_report(&report, call.status, call.pages);
	}
	kvfree(call.order);
	kvfree(call.pairs);
	kvfree(call.status);
	kvfree(call.runs);
put_b:
	fput(b);
	return result;
}
