/* What of a running task's private memory is in use. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define PAGE        4096ULL
#define ENTRIES     4096
#define MAP_PRESENT (1ULL << 63)
/* Of a file, or shared. */
#define MAP_FILE (1ULL << 61)

struct search {
    struct page_run *found;
    size_t count, room;
    uint64_t least;
    /* The run that is being looked at. */
    struct page_run run;
};

static void end_run(struct search *search)
{
    if (search->run.pages >= search->least && search->count < search->room)
        search->found[search->count++] = search->run;
    search->run.pages = 0;
}

static void look(struct search *search, uint64_t address, const uint64_t *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((entries[i] & (MAP_PRESENT | MAP_FILE)) != MAP_PRESENT)
            end_run(search);
        else if (search->run.pages++ == 0)
            search->run.address = address + i * PAGE;
    }
}

int64_t present_runs(pid_t pid, const struct page_run *runs, size_t count, uint64_t least, struct page_run *found,
                     size_t room)
{
    static uint64_t entries[ENTRIES];
    struct search search = {.found = found, .room = room, .least = least};
    char path[64];
    int pagemap;

    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) return errno == ENOENT || errno == ESRCH ? 0 : -errno;
    for (size_t i = 0; i < count; i++) {
        uint64_t at = runs[i].address, end = at + runs[i].pages * PAGE;

        while (at < end) {
            size_t wanted = (end - at) / PAGE < ENTRIES ? (end - at) / PAGE : ENTRIES;
            ssize_t bytes = pread(pagemap, entries, wanted * sizeof *entries, (off_t)(at / PAGE * sizeof *entries));

            /* The task runs, and may end: what is read of it is a guess in any case. */
            if (bytes < (ssize_t)sizeof *entries) break;
            look(&search, at, entries, (size_t)bytes / sizeof *entries);
            at += (uint64_t)bytes / sizeof *entries * PAGE;
        }
        end_run(&search);
    }
    close(pagemap);
    return (int64_t)search.count;
}
