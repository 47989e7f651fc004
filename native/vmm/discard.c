/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU gives guest pages back (balloon, free page reporting, virtio-mem) by punching a hole in its memory
 * file, by offset. After an exchange that offset holds a page of another VM: the hole would be torn into a
 * stranger's memory. So the library stands before fallocate() and punches by address instead:
 * madvise(MADV_REMOVE) finds the file and offset that really back it.
 */
#define _GNU_SOURCE
#include "memory.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>

typedef int (*fallocate_function)(int fd, int mode, off64_t offset, off64_t bytes);

static int next_fallocate(int fd, int mode, off64_t offset, off64_t bytes)
{
    static _Atomic(fallocate_function) next;

    if (next == NULL) next = (fallocate_function)dlsym(RTLD_NEXT, "fallocate64");
    if (next == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return next(fd, mode, offset, bytes);
}

static int punch(int fd, int mode, off64_t offset, off64_t bytes)
{
    struct mw_file_range ram;
    struct stat st;
    uint64_t at = (uint64_t)offset, end = at + (uint64_t)bytes;

    if (fstat(fd, &st) < 0) return -1;
    while (at < end && mw_find_in_file(st.st_dev, st.st_ino, at, end - at, &ram)) {
        /* What lies outside guest RAM (a firmware window) is never exchanged. */
        if (ram.offset > at && next_fallocate(fd, mode, (off64_t)at, (off64_t)(ram.offset - at)) < 0)
            return -1;
        /* SAFETY: the range is guest RAM, and the VMM has just asked for its contents to be thrown away. */
        if (madvise((void *)(uintptr_t)ram.hva, ram.bytes, MADV_REMOVE) < 0) return -1;
        at = ram.offset + ram.bytes;
    }
    return at < end ? next_fallocate(fd, mode, (off64_t)at, (off64_t)(end - at)) : 0;
}

__attribute__((visibility("default"))) int fallocate64(int fd, int mode, off64_t offset, off64_t bytes)
{
    if ((mode & FALLOC_FL_PUNCH_HOLE) == 0 || offset < 0 || bytes <= 0 || !mw_was_exchanged())
        return next_fallocate(fd, mode, offset, bytes);
    return punch(fd, mode, offset, bytes);
}

__attribute__((visibility("default"))) int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    return fallocate64(fd, mode, offset, bytes);
}
