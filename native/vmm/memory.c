/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM ranges and the exchange of what backs them. */
#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

struct region {
    uint64_t start;
    uint64_t end;
    /* The file that backed it when it was told, before anything was exchanged, and where in that file. */
    dev_t device;
    ino_t inode;
    uint64_t offset;
    /* Attributes the VMM gave its guest RAM; a fresh mmap loses them. */
    bool hugepage;
    bool nohugepage;
    bool dontfork;
    bool dontdump;
    bool noreserve;
};

/* Appended to by the library's thread, read by the VMM's threads too (discard.c). */
static struct region regions[MW_MAX_REGIONS];
static _Atomic uint32_t region_count;
/* Whether a byte offset in the VMM's own memory file may by now name another VM's page. */
static _Atomic bool exchanged;

/*
 * The kernel bounds the number of mappings of a process (vm.max_map_count). An exchange that hits the bound
 * must still be undone, and putting an old mapping back can need one mapping more for an instant. These are
 * kept in hand for that.
 */
#define SPARE_MAPPINGS 64
#define PAGE           4096ul

static char *spare;

/* Neighbours of unequal protection cannot merge: as many mappings as pages. No page of them is ever touched.
 */
static int hold_spare(void)
{
    if (spare != NULL) return 0;
    spare = mmap(NULL, SPARE_MAPPINGS * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (spare == MAP_FAILED) {
        spare = NULL;
        return -errno;
    }
    for (unsigned long i = 0; i < SPARE_MAPPINGS; i += 2)
        if (mprotect(spare + i * PAGE, PAGE, PROT_READ) < 0) return -errno;
    return 0;
}

static void give_spare(void)
{
    if (spare != NULL) (void)munmap(spare, SPARE_MAPPINGS * PAGE);
    spare = NULL;
}

uint32_t mw_region_count(void)
{
    return region_count;
}

static bool has_flag(const char *flags, const char *flag)
{
    for (const char *at = flags; (at = strstr(at, flag)) != NULL; at += 2)
        if (at[-1] == ' ' && (at[2] == ' ' || at[2] == '\n' || at[2] == '\0')) return true;
    return false;
}

/* One line of smaps that names a mapping. */
struct mapping {
    unsigned long start, end, offset, inode;
    unsigned int major, minor;
    char permissions[8];
};

static bool parse_mapping(const char *line, struct mapping *mapping)
{
    return sscanf(line, "%lx-%lx %7s %lx %x:%x %lu", &mapping->start, &mapping->end, mapping->permissions,
                  &mapping->offset, &mapping->major, &mapping->minor, &mapping->inode) == 7;
}

/* Whether the mapping carries the region on from `covered`: shared and writable, in the same file, in a row.
 */
static bool continues(struct region *region, const struct mapping *mapping, uint64_t covered)
{
    dev_t device = makedev(mapping->major, mapping->minor);

    if (mapping->start > covered || mapping->inode == 0 || mapping->permissions[0] != 'r' ||
        mapping->permissions[1] != 'w' || mapping->permissions[3] != 's')
        return false;
    if (covered == region->start) {
        region->device = device;
        region->inode = mapping->inode;
        region->offset = mapping->offset + (covered - mapping->start);
    }
    return region->device == device && region->inode == mapping->inode &&
           region->offset + (covered - region->start) == mapping->offset + (covered - mapping->start);
}

static int take_attributes(struct region *region, const char *flags)
{
    region->hugepage = has_flag(flags, "hg");
    region->nohugepage = has_flag(flags, "nh");
    region->dontfork = has_flag(flags, "dc");
    region->dontdump = has_flag(flags, "dd");
    region->noreserve = has_flag(flags, "nr");
    /* A locked or sealed mapping cannot be replaced faithfully. */
    return has_flag(flags, "lo") || has_flag(flags, "sl") ? -EPERM : 0;
}

/* Holds the region against /proc/self/smaps: all of it must be one file's, mapped shared and writable in a
 * row. */
static int inspect(struct region *region)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    char line[1024];
    uint64_t covered = region->start;
    bool inside = false;
    int rc = 0;

    if (smaps == NULL) return -errno;
    while (rc == 0 && fgets(line, sizeof(line), smaps) != NULL) {
        struct mapping mapping;

        if (parse_mapping(line, &mapping)) {
            inside = mapping.start < region->end && mapping.end > region->start;
            if (inside && !continues(region, &mapping, covered)) rc = -EOPNOTSUPP;
            if (inside) covered = mapping.end;
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            rc = take_attributes(region, line);
            if (covered >= region->end) break;
        }
    }
    fclose(smaps);
    if (rc == 0 && covered < region->end) rc = -EFAULT;
    return rc;
}

int mw_region_add(uint64_t hva, uint64_t bytes)
{
    struct region region = {.start = hva, .end = hva + bytes};

    if (bytes == 0 || region.end < region.start || (hva | bytes) % 4096 != 0) return -EINVAL;
    for (uint32_t i = 0; i < region_count; i++) {
        if (regions[i].start == region.start && regions[i].end == region.end) return 0;
        if (region.start < regions[i].end && region.end > regions[i].start) return -EEXIST;
    }
    if (region_count == MW_MAX_REGIONS) return -ENOSPC;
    int rc = hold_spare();
    if (rc < 0) return rc;
    rc = inspect(&region);
    if (rc < 0) return rc;
    regions[region_count] = region;
    region_count++;
    return 0;
}

bool mw_was_exchanged(void)
{
    return exchanged;
}

bool mw_find_in_file(dev_t device, ino_t inode, uint64_t offset, uint64_t bytes, struct mw_file_range *range)
{
    uint64_t end = offset + bytes;
    bool found = false;

    for (uint32_t i = 0; i < region_count; i++) {
        const struct region *region = &regions[i];
        uint64_t first = region->offset, last = region->offset + (region->end - region->start);

        if (region->device != device || region->inode != inode || first >= end || last <= offset) continue;
        if (first < offset) first = offset;
        if (found && first >= range->offset) continue;
        range->offset = first;
        range->bytes = (last < end ? last : end) - first;
        range->hva = region->start + (first - region->offset);
        found = true;
    }
    return found;
}

static const struct region *region_of(uint64_t hva, uint64_t bytes)
{
    for (uint32_t i = 0; i < region_count; i++)
        if (hva >= regions[i].start && hva < regions[i].end && bytes <= regions[i].end - hva)
            return &regions[i];
    return NULL;
}

static int check_backing(const struct mw_files *files, uint32_t handle, uint64_t offset,
                         const struct mw_extent *extent)
{
    if (handle >= MW_MAX_HANDLES || files->entry[handle].fd < 0) return -EBADF;
    if ((extent->hva | extent->bytes | offset) % files->entry[handle].page_bytes != 0) return -EINVAL;
    /* Past the end of the file the guest would take SIGBUS with it. */
    if (offset > files->entry[handle].bytes || extent->bytes > files->entry[handle].bytes - offset)
        return -ERANGE;
    return 0;
}

static int check(const struct mw_files *files, const struct mw_extent *extents, uint32_t index)
{
    const struct mw_extent *extent = &extents[index];
    int rc;

    if (extent->bytes == 0) return -EINVAL;
    if (region_of(extent->hva, extent->bytes) == NULL) return -EFAULT;
    /* Ascending order makes the overlap check one comparison, and the kernel's work a sweep. */
    if (index > 0 && extent->hva < extents[index - 1].hva + extents[index - 1].bytes) return -EEXIST;
    rc = check_backing(files, extent->handle, extent->offset, extent);
    if (rc == 0) rc = check_backing(files, extent->old_handle, extent->old_offset, extent);
    return rc;
}

static int map_one(const struct mw_files *files, uint64_t hva, uint64_t bytes, uint32_t handle,
                   uint64_t offset)
{
    const struct region *region = region_of(hva, bytes);
    void *at = (void *)(uintptr_t)hva;
    int flags = MAP_SHARED | MAP_FIXED | (region->noreserve ? MAP_NORESERVE : 0);

    /*
     * SAFETY: [hva, hva + bytes) lies inside guest RAM told by REGION, which the VMM never unmaps while it
     * lives; the file covers the range (checked above), so no access can fault past its end. MAP_FIXED
     * replaces atomically for the VMM's threads: they see the old page or the new one.
     */
    if (mmap(at, bytes, PROT_READ | PROT_WRITE, flags, files->entry[handle].fd, (off_t)offset) == MAP_FAILED)
        return -errno;
    /* Attributes only tune; a kernel without one of them is no reason to fail a migration. */
    if (region->hugepage) (void)madvise(at, bytes, MADV_HUGEPAGE);
    if (region->nohugepage) (void)madvise(at, bytes, MADV_NOHUGEPAGE);
    if (region->dontfork) (void)madvise(at, bytes, MADV_DONTFORK);
    if (region->dontdump) (void)madvise(at, bytes, MADV_DONTDUMP);
    return 0;
}

/* Puts the old mappings of extents [0, count) back, last first: each step is the exact reverse of one that
 * worked. */
static int undo(const struct mw_files *files, const struct mw_extent *extents, uint32_t count)
{
    int first_error = 0;

    give_spare();
    for (uint32_t i = count; i-- > 0;) {
        int rc =
            map_one(files, extents[i].hva, extents[i].bytes, extents[i].old_handle, extents[i].old_offset);

        if (rc < 0 && first_error == 0) first_error = rc;
    }
    /* Without spare mappings there is no further exchange, see mw_map. */
    (void)hold_spare();
    return first_error;
}

int mw_map(const struct mw_files *files, const struct mw_extent *extents, uint32_t count,
           struct mw_map_result *result)
{
    int rc = hold_spare();

    result->index = 0;
    result->undo_error = 0;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        result->index = i;
        rc = check(files, extents, i);
    }
    if (rc < 0) return rc;
    exchanged = true;
    for (uint32_t i = 0; i < count; i++) {
        result->index = i;
        rc = map_one(files, extents[i].hva, extents[i].bytes, extents[i].handle, extents[i].offset);
        if (rc < 0) {
            /* The failed mmap may have removed the old mapping already: that one is put back too. */
            result->undo_error = undo(files, extents, i + 1);
            return rc;
        }
    }
    result->index = count;
    return 0;
}
