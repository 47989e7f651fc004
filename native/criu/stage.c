/*
 * Memory that is faulted in ahead. The list has, for each mapping,
 *
 *   map PID PAGE PAGES NORESERVE THP    the stage's first page, with the room around the mapping; THP as enum thp
 *   fill PAGE PAGES                     counted from there
 */
#include "handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILLS 16384
/* Others let go of a piece in the moment they are forked; until then nobody has to wait long. */
#define SETTLE_TRIES    5000
#define SETTLE_PAUSE_NS 200000

/* Huge pages: as the kernel has it, asked for or refused by madvise(2), or off for the process by prctl(2). */
enum thp { THP_DEFAULT, THP_ASKED, THP_REFUSED, THP_OFF };

static struct stage stages[MAX_STAGES];
static struct fill fills[MAX_FILLS];
static int stage_count;
static size_t fill_count;
static struct stage_state *state;

bool stage_any(void) { return stage_count > 0; }

const struct stage *stage_of(int index)
{
    return index >= 0 && index < stage_count && stages[index].at ? &stages[index] : NULL;
}

static void release(int index)
{
    raw_munmap(stages[index].at, stages[index].pages * PAGE);
    stages[index].at = NULL;
    atomic_fetch_sub(&state->holders[index], 1);
}

static int advise(void *at, size_t bytes, int advice)
{
    return madvise(at, bytes, advice) < 0 ? -errno : 0;
}

/* A place that is as far from a 2 MiB boundary as `page` is: huge pages lie in it as in the mapping that it is for. */
static char *reserve(uint64_t page, uint64_t pages, bool no_reserve)
{
    size_t bytes = pages * PAGE, room = bytes + HUGE_PAGES * PAGE;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (no_reserve ? MAP_NORESERVE : 0);
    char *at = raw_mmap(NULL, room, PROT_READ | PROT_WRITE, flags, -1, 0);
    size_t head;

    if (at == MAP_FAILED) return NULL;
    head = (page - (uintptr_t)at / PAGE) % HUGE_PAGES * PAGE;
    if (head > 0) raw_munmap(at, head);
    raw_munmap(at + head + bytes, room - head - bytes);
    return at + head;
}

static int fill(const struct stage *stage, enum thp thp)
{
    uint64_t done = 0;
    int error = 0;

    if (thp == THP_ASKED) advise(stage->at, stage->pages * PAGE, MADV_HUGEPAGE);
    if (thp == THP_REFUSED) advise(stage->at, stage->pages * PAGE, MADV_NOHUGEPAGE);
    if (thp == THP_OFF) prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    for (size_t i = stage->first_fill; i < stage->first_fill + stage->fills && error == 0; i++) {
        error = advise(stage->at + fills[i].page * PAGE, fills[i].pages * PAGE, MADV_POPULATE_WRITE);
        done += fills[i].pages;
    }
    if (thp == THP_OFF) prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
    if (error == 0) error = advise(stage->at, stage->pages * PAGE, MADV_DONTFORK);
    if (error == 0) atomic_fetch_add(&state->staged_pages, done);
    return error;
}

static struct stage_state *open_state(const char *list)
{
    char path[4096];
    void *at;
    int fd;

    if (snprintf(path, sizeof path, "%s.state", list) >= (int)sizeof path) return NULL;
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return NULL;
    at = ftruncate(fd, sizeof *state) == 0
             ? raw_mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
             : MAP_FAILED;
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

static int parse(FILE *file, enum thp *wishes)
{
    char line[256];

    while (fgets(line, sizeof line, file)) {
        unsigned long long page, pages;
        int pid, no_reserve, thp;
        struct stage *last = stage_count > 0 ? &stages[stage_count - 1] : NULL;

        if (sscanf(line, "map %d %llu %llu %d %d", &pid, &page, &pages, &no_reserve, &thp) == 5) {
            if (stage_count == MAX_STAGES) return -E2BIG;
            stages[stage_count] = (struct stage){.pid = pid, .pages = pages, .first_fill = fill_count};
            stages[stage_count].at = reserve(page, pages, no_reserve != 0);
            if (!stages[stage_count].at) return -ENOMEM;
            atomic_store(&state->holders[stage_count], 1);
            wishes[stage_count++] = (enum thp)thp;
        } else if (last && sscanf(line, "fill %llu %llu", &page, &pages) == 2) {
            if (fill_count == MAX_FILLS || pages > last->pages || page > last->pages - pages) return -E2BIG;
            fills[fill_count++] = (struct fill){page, pages};
            last->fills++;
        } else {
            return -EINVAL;
        }
    }
    return 0;
}

int stage_all(const char *list)
{
    enum thp wishes[MAX_STAGES];
    FILE *file = fopen(list, "re");
    int error;

    if (!file) return -errno;
    state = open_state(list);
    error = state ? parse(file, wishes) : -EIO;
    fclose(file);
    for (int i = 0; i < stage_count && error == 0; i++) error = fill(&stages[i], wishes[i]);
    if (error < 0) stage_release();
    if (state) atomic_store(&state->outcome, error < 0 ? error : 1);
    return error;
}

void stage_before_fork(void)
{
    for (int i = 0; i < stage_count; i++) {
        if (!stages[i].at) continue;
        advise(stages[i].at, stages[i].pages * PAGE, MADV_DOFORK);
        atomic_fetch_add(&state->holders[i], 1);
    }
}

void stage_after_fork(bool (*wanted)(pid_t owner, pid_t child), pid_t child)
{
    for (int i = 0; i < stage_count; i++) {
        if (!stages[i].at) continue;
        if (wanted(stages[i].pid, child))
            advise(stages[i].at, stages[i].pages * PAGE, MADV_DONTFORK);
        else
            release(i);
    }
}

void stage_not_forked(void)
{
    for (int i = 0; i < stage_count; i++) {
        if (!stages[i].at) continue;
        advise(stages[i].at, stages[i].pages * PAGE, MADV_DONTFORK);
        atomic_fetch_sub(&state->holders[i], 1);
    }
}

void stage_release(void)
{
    for (int i = 0; i < stage_count; i++)
        if (stages[i].at) release(i);
    stage_count = 0;
}

/* Pages that were shared over a fork are write-protected; whoever has them alone gets them back at the first write. */
bool stage_settle(int index)
{
    const struct timespec pause = {0, SETTLE_PAUSE_NS};
    const struct stage *stage = stage_of(index);

    if (!stage) return false;
    for (int i = 0; atomic_load(&state->holders[index]) > 1; i++) {
        if (i == SETTLE_TRIES) return false;
        nanosleep(&pause, NULL);
    }
    for (size_t i = stage->first_fill; i < stage->first_fill + stage->fills; i++)
        if (advise(stage->at + fills[i].page * PAGE, fills[i].pages * PAGE, MADV_POPULATE_WRITE) < 0) return false;
    return true;
}

void stage_taken(uint64_t pages) { atomic_fetch_add(&state->handed_pages, pages); }
