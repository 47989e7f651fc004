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
/* Between two looks at the clock: a GiB a second is slow. */
#define PIECE_PAGES 16384
/* The container runs on meanwhile; but whoever empties a VM waits. */
#define LIMIT_S 60
/* Others let go in the moment they are forked: nobody has to wait long, and all together no longer than this. */
#define ALONE_TRIES    5000
#define ALONE_PAUSE_NS 200000

/* Huge pages: as the kernel has it, asked for or refused by madvise(2), or off for the process by prctl(2). */
enum thp { THP_DEFAULT, THP_ASKED, THP_REFUSED, THP_OFF };

static struct stage stages[MAX_STAGES];
static struct run fills[MAX_FILLS];
static int stage_count;
static size_t fill_count;
static struct stage_state *state;

bool stage_any(void) { return stage_count > 0; }

const struct stage *stage_of(int index)
{
    return index >= 0 && index < stage_count && stages[index].at ? &stages[index] : NULL;
}

void stage_release(int index)
{
    if (!stage_of(index)) return;
    raw_munmap(stages[index].at, stages[index].pages * PAGE);
    stages[index].at = NULL;
    atomic_fetch_sub(&state->holders[index], 1);
}

void stage_release_all(void)
{
    for (int i = 0; i < stage_count; i++) stage_release(i);
    stage_count = 0;
}

static int advise(void *at, size_t bytes, int advice) { return madvise(at, bytes, advice) < 0 ? -errno : 0; }

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

static int64_t now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static int fault_in(char *at, uint64_t pages, int64_t deadline)
{
    int error = 0;

    for (uint64_t done = 0, count; done < pages && error == 0; done += count) {
        count = pages - done < PIECE_PAGES ? pages - done : PIECE_PAGES;
        error = now_s() > deadline ? -ETIME : advise(at + done * PAGE, count * PAGE, MADV_POPULATE_WRITE);
    }
    if (error == 0) atomic_fetch_add(&state->staged_pages, pages);
    return error;
}

/*
 * Blocks of 2 MiB that are wanted to the last page, or the pages before and after them. The latter must not become huge pages: the
 * room around a mapping would be in them, which the mapping itself has not.
 */
static int fill_part(const struct stage *stage, bool blocks, int64_t deadline)
{
    uint64_t lead = (uintptr_t)stage->at / PAGE % HUGE_PAGES;
    int error = 0;

    for (size_t i = stage->first_fill; i < stage->first_fill + stage->fills && error == 0; i++) {
        uint64_t page = fills[i].page, end = page + fills[i].pages;
        uint64_t first = (page + lead + HUGE_PAGES - 1) / HUGE_PAGES * HUGE_PAGES - lead;
        uint64_t last = (end + lead) / HUGE_PAGES * HUGE_PAGES - lead;

        if (first >= last || first > end) first = last = end;
        if (blocks) {
            error = fault_in(stage->at + first * PAGE, last - first, deadline);
        } else {
            error = fault_in(stage->at + page * PAGE, first - page, deadline);
            if (error == 0) error = fault_in(stage->at + last * PAGE, end - last, deadline);
        }
    }
    return error;
}

static int fill(const struct stage *stage, enum thp thp, int64_t deadline)
{
    int error;

    if (thp == THP_ASKED) advise(stage->at, stage->pages * PAGE, MADV_HUGEPAGE);
    if (thp == THP_REFUSED) advise(stage->at, stage->pages * PAGE, MADV_NOHUGEPAGE);
    if (thp == THP_OFF) prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    error = fill_part(stage, true, deadline);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    if (error == 0) error = fill_part(stage, false, deadline);
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
    return error == 0 ? advise(stage->at, stage->pages * PAGE, MADV_DONTFORK) : error;
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

/* A mapping for which there is no room keeps its number and gets nothing. */
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
            atomic_store(&state->holders[stage_count], 1);
            wishes[stage_count++] = (enum thp)thp;
        } else if (last && sscanf(line, "fill %llu %llu", &page, &pages) == 2) {
            if (fill_count == MAX_FILLS || pages > last->pages || page > last->pages - pages) return -E2BIG;
            fills[fill_count++] = (struct run){page, pages};
            last->fills++;
        } else {
            return -EINVAL;
        }
    }
    return 0;
}

int stage_all(const char *list)
{
    int64_t deadline = now_s() + LIMIT_S;
    enum thp wishes[MAX_STAGES];
    FILE *file = fopen(list, "re");
    int error;

    if (!file) return -errno;
    state = open_state(list);
    error = state ? parse(file, wishes) : -EIO;
    fclose(file);
    for (int i = 0; i < stage_count && error == 0; i++)
        if (stages[i].at) error = fill(&stages[i], wishes[i], deadline);
    if (error == 0 && atomic_load(&state->staged_pages) == 0) error = -ENOMEM;
    if (error < 0) stage_release_all();
    if (state) atomic_store(&state->outcome, error < 0 ? error : 1);
    return error;
}

void stage_before_fork(pid_t child)
{
    for (int i = 0; i < stage_count; i++) {
        if (!stages[i].at || !plan_descends(stages[i].pid, child)) continue;
        advise(stages[i].at, stages[i].pages * PAGE, MADV_DOFORK);
        atomic_fetch_add(&state->holders[i], 1);
    }
}

void stage_after_fork(pid_t child, enum fork_side side)
{
    for (int i = 0; i < stage_count; i++) {
        bool inherited = plan_descends(stages[i].pid, child);

        if (!stages[i].at) continue;
        if (side == FORK_PARENT && inherited) {
            stage_release(i);
        } else if (side == FORK_CHILD && !inherited) {
            /* It was not inherited. */
            stages[i].at = NULL;
        } else if (inherited) {
            advise(stages[i].at, stages[i].pages * PAGE, MADV_DONTFORK);
            if (side == FORK_FAILED) atomic_fetch_sub(&state->holders[i], 1);
        }
    }
}

bool stage_is_alone(int index)
{
    static int tries = ALONE_TRIES;
    const struct timespec pause = {0, ALONE_PAUSE_NS};

    for (; atomic_load(&state->holders[index]) > 1 && tries > 0; tries--) nanosleep(&pause, NULL);
    return atomic_load(&state->holders[index]) == 1;
}

void stage_taken(uint64_t pages) { atomic_fetch_add(&state->handed_pages, pages); }
