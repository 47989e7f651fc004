/* Which blocks of 2 MiB of a running task's private memory have every page in use. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define PAGE        4096ULL
#define HUGE_PAGES  512ULL
#define MAP_PRESENT (1ULL << 63)
/* Of a file, or shared. */
#define MAP_FILE (1ULL << 61)

static bool is_whole(const uint64_t *entries)
{
    uint64_t i;

    for (i = 0; i < HUGE_PAGES && (entries[i] & (MAP_PRESENT | MAP_FILE)) == MAP_PRESENT; i++) {
    }
    return i == HUGE_PAGES;
}

int64_t whole_blocks(pid_t pid, const struct page_run *runs, size_t count, struct page_run *blocks, size_t room)
{
    uint64_t entries[HUGE_PAGES];
    size_t found = 0;
    char path[64];
    int pagemap;

    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) return errno == ENOENT ? 0 : -errno;
    for (size_t i = 0; i < count; i++) {
        uint64_t end = runs[i].address + runs[i].pages * PAGE;
        uint64_t at = (runs[i].address + HUGE_PAGES * PAGE - 1) / (HUGE_PAGES * PAGE) * HUGE_PAGES * PAGE;

        for (; at + HUGE_PAGES * PAGE <= end; at += HUGE_PAGES * PAGE) {
            struct page_run *last = found > 0 ? &blocks[found - 1] : NULL;

            /* The task runs, and may end: what is read of it is a guess in any case. */
            if (pread(pagemap, entries, sizeof entries, (off_t)(at / PAGE * sizeof *entries)) != sizeof entries) break;
            if (!is_whole(entries)) continue;
            if (last && last->address + last->pages * PAGE == at)
                last->pages += HUGE_PAGES;
            else if (found < room)
                blocks[found++] = (struct page_run){at, HUGE_PAGES};
        }
    }
    close(pagemap);
    return (int64_t)found;
}
