/* The calls of CRIU that this library stands in for; see handover.h. */
#include "handover.h"

#include <linux/sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

#define PREMAP_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)

/* The task that this process is to become. */
static const struct task *task;
/* Its area for premapped mappings. */
static char *area;
static size_t area_bytes;
/* The next of its mappings that CRIU is expected to premap. */
static size_t next;

__attribute__((constructor)) static void begin(void)
{
    const char *list = getenv("MWARP_STAGE");

    /* What CRIU starts is to begin without us. */
    unsetenv("LD_PRELOAD");
    if (list) stage_all(list);
    unsetenv("MWARP_STAGE");
    terminal_begin();
}

static void begin_task(pid_t child)
{
    stage_after_fork(child, FORK_CHILD);
    task = plan_task(child);
    area = NULL;
    next = 0;
}

/* The list comes with the images, long after CRIU was started; the first task may be in another mount namespace. */
static void plan_once(void)
{
    static bool planned;
    const char *images = getenv("MWARP_IMAGES");

    if (planned) return;
    planned = true;
    if (images && plan_read(images) == 0)
        plan_trim();
    else
        stage_release_all();
}

/* criu/clone-noasan.c, clone3_with_pid_noasan: the only clone3 by which a task of the container comes to be. */
static long fork_task(struct clone_args *arguments, size_t size)
{
    pid_t child = *(pid_t *)(uintptr_t)arguments->set_tid;
    long result;

    plan_once();
    stage_before_fork(child);
    result = raw_call(SYS_clone3, (long)arguments, (long)size, 0, 0, 0, 0);
    if (result == 0)
        begin_task(child);
    else
        stage_after_fork(child, result > 0 ? FORK_PARENT : FORK_FAILED);
    return result;
}

/* CRIU tries the call with a pointer to nowhere and a size of 0 to see whether the kernel has it (criu/kerndat.c). */
static bool is_task(long number, const long *arguments)
{
    const struct clone_args *clone = (struct clone_args *)arguments[0];

    return number == SYS_clone3 && (size_t)arguments[1] >= CLONE_ARGS_SIZE_VER1 && clone->set_tid_size > 0 &&
           (clone->flags & CLONE_VM) == 0;
}

EXPORTED long syscall(long number, ...)
{
    long arguments[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++) arguments[i] = va_arg(list, long);
    va_end(list);
    if (stage_any() && is_task(number, arguments))
        return fork_task((struct clone_args *)arguments[0], (size_t)arguments[1]);
    return raw_call(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

/* criu/mem.c, prepare_mappings. As far from a 2 MiB boundary as suits most of the task's huge pages. */
static void *reserve_area(size_t bytes)
{
    size_t room = bytes + HUGE_PAGES * PAGE, head;
    char *at = raw_mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED) return at;
    head = (task->phase - (uintptr_t)at / PAGE) % HUGE_PAGES * PAGE;
    if (head > 0) raw_munmap(at, head);
    raw_munmap(at + head + bytes, room - head - bytes);
    area = at + head;
    area_bytes = bytes;
    return area;
}

/* criu/mem.c, premap_private_vma: mappings come in the order of their addresses. */
static void note_premapped(char *at, size_t bytes)
{
    struct mapping *mappings = plan_mappings(task);
    uint64_t place = (uint64_t)(at - area) / PAGE;

    while (next < task->mappings && mappings[next].place < place) next++;
    if (next < task->mappings && mappings[next].place == place && mappings[next].pages * PAGE == bytes)
        mappings[next].at = at;
}

#define LOOK_PAGES (16 * HUGE_PAGES)

/* False when there is something, or it cannot be told: what CRIU has read must not be lost. */
static bool is_empty(char *at, size_t pages)
{
    static unsigned char present[LOOK_PAGES];

    for (size_t done = 0, count; done < pages; done += count) {
        count = pages - done < LOOK_PAGES ? pages - done : LOOK_PAGES;
        if (mincore(at + done * PAGE, count * PAGE, present) != 0) return false;
        for (size_t i = 0; i < count; i++)
            if (present[i] & 1) return false;
    }
    return true;
}

/*
 * A huge page of which a part is given back, or that is moved to where it does not lie as before, is taken apart; and on some kernels
 * its pages lose their dirty bits so (6.1, __split_huge_pmd_locked). The host takes only dirty ones for pages that this guest has
 * written.
 */
static void write_again(const struct mapping *mapping, bool all)
{
    const struct run *keep = plan_keeps(mapping);

    for (size_t k = 0; k < mapping->keeps; k++) {
        uint64_t end = keep[k].page + keep[k].pages;

        for (uint64_t i = keep[k].page; i < end; i++) {
            if (!all && i - keep[k].page >= HUGE_PAGES && end - i > HUGE_PAGES) i = end - HUGE_PAGES;
            *(volatile char *)(mapping->at + i * PAGE) = 0;
        }
    }
}

/* Pages that were shared over a fork are write-protected; who has them alone gets them back at the first write. */
static bool settle(const struct mapping *mapping, char *from)
{
    const struct run *keep = plan_keeps(mapping);

    for (size_t k = 0; k < mapping->keeps; k++)
        if (madvise(from + keep[k].page * PAGE, keep[k].pages * PAGE, MADV_POPULATE_WRITE) != 0) return false;
    return true;
}

static void take(const struct mapping *mapping)
{
    size_t bytes = mapping->pages * PAGE;
    char *from = stage_of(mapping->stage)->at + mapping->offset * PAGE;
    bool whole = ((uintptr_t)from ^ (uintptr_t)mapping->at) / PAGE % HUGE_PAGES == 0;

    if (!is_empty(mapping->at, mapping->pages) || !settle(mapping, from)) return;
    if (madvise(from, bytes, MADV_DOFORK) != 0) return;
    if (raw_mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, mapping->at) != mapping->at) return;
    write_again(mapping, !whole);
    stage_taken(mapping->pages);
}

/*
 * criu/cr-restore.c, sigreturn_restore: all tasks have been forked, and this one is about to become what it was. CRIU has chosen a
 * place for its last code where nothing was mapped: nothing new may be from here on.
 */
static void take_all(void)
{
    const struct mapping *mappings = plan_mappings(task);

    for (size_t i = 0; i < task->mappings; i++) {
        const struct mapping *mapping = &mappings[i];

        if (mapping->at && stage_of(mapping->stage) && stage_is_alone(mapping->stage)) take(mapping);
    }
    task = NULL;
}

static bool in_area(const char *at) { return area && at >= area && at < area + area_bytes; }

static void *map(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    bool fixed = (flags & PREMAP_FLAGS) == PREMAP_FLAGS;
    void *result;

    if (task && !area && !at && protection == PROT_NONE && flags == (MAP_PRIVATE | MAP_ANONYMOUS)) return reserve_area(bytes);
    result = raw_mmap(at, bytes, protection, flags, fd, offset);
    if (!task || !area || !fixed || result != at) return result;
    if (in_area(at))
        note_premapped(at, bytes);
    else
        take_all();
    return result;
}

EXPORTED void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return map(at, bytes, protection, flags, fd, offset);
}

EXPORTED void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off64_t offset)
{
    return map(at, bytes, protection, flags, fd, offset);
}

/* A mapping that a task may share with its parent was premapped there, and is moved out of what it inherited. */
EXPORTED void *mremap(void *from, size_t old_bytes, size_t bytes, int flags, ...)
{
    void *to, *result;
    va_list list;

    va_start(list, flags);
    to = flags & MREMAP_FIXED ? va_arg(list, void *) : NULL;
    va_end(list);
    result = raw_mremap(from, old_bytes, bytes, flags, to);
    if (task && result != MAP_FAILED && in_area(result)) note_premapped(result, bytes);
    return result;
}
