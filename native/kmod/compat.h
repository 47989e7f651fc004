/* SPDX-License-Identifier: GPL-2.0 */
/* What differs between the kernels that this is built for. */
#ifndef MWARP_COMPAT_H
#define MWARP_COMPAT_H

#include <linux/fs.h>
#include <linux/version.h>

/*
 * The page cache, shmem and reclaim of these have been read for what the exchange relies on (see
 * swap.c); of others nobody knows.
 */
#define MW_IS_LINUX(minor)                                                                         \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, minor, 0) &&                                      \
	 LINUX_VERSION_CODE < KERNEL_VERSION(6, (minor) + 1, 0))
#if !MW_IS_LINUX(1) && !MW_IS_LINUX(12)
#error "mwarp.ko is for Linux 6.1 and 6.12"
#endif

/* The contents of @inode are others now. */
static inline void mw_touch_inode(struct inode *inode)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	inode_set_mtime_to_ts(inode, inode_set_ctime_current(inode));
#else
	inode->i_mtime = current_time(inode);
	inode->i_ctime = inode->i_mtime;
#endif
}

#endif
