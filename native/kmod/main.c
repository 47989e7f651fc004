// SPDX-License-Identifier: GPL-2.0
/* /dev/mwarp: see mwarp.h. */
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "internal.h"

/*
 * Whoever has it open may exchange the memory of any two files that are open to it for
 * writing; it may be handed on, as any descriptor. What user space checks before it (whether
 * a page may leave its VM) is not checked here again: hence the capability.
 */
static int mw_open(struct inode *inode, struct file *file)
{
	return capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

static long mw_info(struct mwarp_info __user *to)
{
	struct mwarp_info info = {
		.version = MWARP_VERSION,
		.page_bytes = PAGE_SIZE,
		.max_pages = MWARP_MAX_PAGES,
		.flags = MWARP_X_FLAGS,
	};

	return copy_to_user(to, &info, sizeof(info)) ? -EFAULT : 0;
}

static long mw_exchange_ioctl(const struct mwarp_exchange *request)
{
	struct file *a = mw_get_memory(request->a);
	long result;

	if (IS_ERR(a))
		return PTR_ERR(a);
	result = mw_exchange_call(request, a, NULL);
	fput(a);
	return result;
}

static long mw_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	void __user *user = (void __user *)argument;
	struct mwarp_exchange exchange;
	struct mwarp_table_create create;

	switch (command) {
	case MWARP_IOC_INFO:
		return mw_info(user);
	case MWARP_IOC_EXCHANGE:
		if (copy_from_user(&exchange, user, sizeof(exchange)))
			return -EFAULT;
		return mw_exchange_ioctl(&exchange);
	case MWARP_IOC_TABLE_CREATE:
		if (copy_from_user(&create, user, sizeof(create)))
			return -EFAULT;
		return mw_table_create(&create);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations mw_operations = {
	.owner = THIS_MODULE,
	.open = mw_open,
	.unlocked_ioctl = mw_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice mw_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "mwarp",
	.fops = &mw_operations,
	.mode = 0600,
};

static int __init mw_init(void)
{
	int error = mw_drain_init();

	if (error)
		return error;
	error = misc_register(&mw_device);
	if (error)
		mw_drain_exit();
	return error;
}

static void __exit mw_exit(void)
{
	misc_deregister(&mw_device);
	mw_drain_exit();
}

module_init(mw_init);
module_exit(mw_exit);

MODULE_DESCRIPTION("mWarp: pages of two shared memory files change places");
MODULE_AUTHOR("The mWarp developers");
MODULE_VERSION("1");
MODULE_LICENSE("GPL");
