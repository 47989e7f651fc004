/* SPDX-License-Identifier: Apache-2.0 */
/* Handles: files of other VMMs' guest memory, opened for one connection. */
#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MW_HUGETLBFS_MAGIC 0x958458f6
#define MW_TMPFS_MAGIC     0x01021994

void mw_files_init(struct mw_files *files)
{
    for (uint32_t i = 0; i < MW_MAX_HANDLES; i++) files->entry[i].fd = -1;
}

void mw_files_close_all(struct mw_files *files)
{
    for (uint32_t i = 0; i < MW_MAX_HANDLES; i++)
        if (files->entry[i].fd >= 0) mw_files_close(files, i);
}

static int describe(int fd, struct mw_file *out)
{
    struct stat st;
    struct statfs fs;

    if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0) return -errno;
    /* Only memory may back guest RAM: a file on disk would hand pages to writeback. */
    if (!S_ISREG(st.st_mode)) return -EOPNOTSUPP;
    if (fs.f_type == MW_HUGETLBFS_MAGIC)
        out->page_bytes = (uint32_t)fs.f_bsize;
    else if (fs.f_type == MW_TMPFS_MAGIC)
        out->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
    else
        return -EOPNOTSUPP;
    out->device_major = major(st.st_dev);
    out->device_minor = minor(st.st_dev);
    out->inode = st.st_ino;
    out->bytes = (uint64_t)st.st_size;
    return 0;
}

int mw_files_open(struct mw_files *files, const char *path, struct mw_file *out)
{
    uint32_t handle = 0;

    while (handle < MW_MAX_HANDLES && files->entry[handle].fd >= 0) handle++;
    if (handle == MW_MAX_HANDLES) return -ENFILE;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return -errno;
    int rc = describe(fd, out);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    out->handle = handle;
    files->entry[handle].fd = fd;
    files->entry[handle].page_bytes = out->page_bytes;
    files->entry[handle].bytes = out->bytes;
    return 0;
}

int mw_files_close(struct mw_files *files, uint32_t handle)
{
    if (handle >= MW_MAX_HANDLES || files->entry[handle].fd < 0) return -EBADF;
    close(files->entry[handle].fd);
    files->entry[handle].fd = -1;
    return 0;
}
