/*
 * libmwarp-handover.so, preloaded into the CRIU that restores a container: memory for the container is faulted in while it still
 * runs elsewhere, and becomes the restored tasks' own by fork and mremap. With it nothing is left to populate while the container
 * stands still, however large it is; and once the tasks run there is no copy, no userfaultfd and nobody who serves pages.
 *
 *   - CRIU stands by (native/guest/swrk.c) in the container's cgroup, so what is faulted in is charged to the container.
 *   - A task is forked from CRIU, or from another task that is being restored, and inherits the memory (criu/cr-restore.c,
 *     fork_with_pid). Everybody else lets go of it at the fork, so it is one process's again when it is needed.
 *   - CRIU maps private mappings at a place of their own before it moves them to where they belong ("premap", criu/mem.c). Just
 *     before a task becomes what it was, staged memory is moved into their place there.
 *
 * INVARIANTS
 *   - Staged memory is zero and nobody's; the mappings that it replaces are anonymous, private and empty. So whatever is taken for
 *     whatever, no byte is wrong: a page too many reads as zeros, which an absent page does, too, and a page too few is populated
 *     afterwards.
 *   - CRIU's calls do what they do without us. Whatever is not as expected only leaves memory staged for nothing; it goes with CRIU.
 *
 * Environment: MWARP_STAGE names the list of what is to be staged (stage.c), MWARP_IMAGES the directory of the images, where the
 * list of what is to be handed over lies by the time the first task is forked (plan.c). MWARP_TERMINAL is there for a container whose
 * init leads a session with a terminal (terminal.c).
 */
#ifndef MWARP_HANDOVER_H
#define MWARP_HANDOVER_H

#define _GNU_SOURCE

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE       4096UL
#define HUGE_PAGES 512UL
#define MAX_STAGES 256

/* What is seen from outside, in a file beside the list: the agent reads all but `holders` (agent/migration/staging.ts). */
struct stage_state {
    /* 0 while memory is being staged, 1 after, or a negative errno. */
    _Atomic int32_t outcome;
    uint32_t zero;
    _Atomic uint64_t staged_pages;
    _Atomic uint64_t handed_pages;
    /* How many processes have each piece mapped. */
    _Atomic int32_t holders[MAX_STAGES];
};

/* Memory for one mapping of one task, with room around it for a mapping that has grown. */
struct stage {
    pid_t pid;
    uint64_t pages;
    /* Where it lies; NULL when it could not be had, or once this process has let go of it. */
    char *at;
    /* Its part in the list of runs that are faulted in. */
    size_t first_fill, fills;
};

/* From the start of a stage, or of a mapping. */
struct run {
    uint64_t page, pages;
};

/* A mapping that gets staged memory. */
struct mapping {
    /* Where CRIU premaps it, in pages from the start of the task's area. */
    uint64_t place, pages;
    int stage;
    /* From which page of the stage on. */
    uint64_t offset;
    /* Where it is premapped; NULL until it was. */
    char *at;
    /* Its part in the list of runs that it keeps. */
    size_t first_keep, keeps;
};

struct task {
    pid_t pid, parent;
    /* Where the area for its mappings has to begin, in pages modulo 512, so that huge pages stay what they are on the move. */
    uint64_t phase;
    size_t first_mapping, mappings;
};

/* raw.c: the kernel's calls, past those of the C library that we stand in for. */
long raw_call(long number, long a, long b, long c, long d, long e, long f);
void *raw_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *raw_mremap(void *from, size_t old_bytes, size_t bytes, int flags, void *to);
int raw_munmap(void *at, size_t bytes);

/* stage.c */
/* Stages what the list says and says so in the state. 0 when there is something staged. */
int stage_all(const char *list);
bool stage_any(void);
const struct stage *stage_of(int index);
/*
 * Around the fork of a task, in which alone a child inherits what is staged, and only for itself and those that are forked from it:
 * CRIU has other children (cgroupd, usernsd) that would hold it for good, and a fork costs by what is inherited.
 */
void stage_before_fork(pid_t child);
enum fork_side { FORK_FAILED, FORK_PARENT, FORK_CHILD };
void stage_after_fork(pid_t child, enum fork_side side);
void stage_release(int index);
void stage_release_all(void);
/* Whether nobody else has it, after a wait. */
bool stage_is_alone(int index);
void stage_taken(uint64_t pages);

/* plan.c */
int plan_read(const char *images);
const struct task *plan_task(pid_t pid);
struct mapping *plan_mappings(const struct task *task);
/* Whether `pid` is `ancestor` or was forked below it. */
bool plan_descends(pid_t pid, pid_t ancestor);
/* Gives back what no mapping keeps. Before the first fork: nothing is to be held twice while the container is put together. */
void plan_trim(void);
const struct run *plan_keeps(const struct mapping *mapping);

/* terminal.c */
void terminal_begin(void);

#endif
