/*
 * What CRIU leaves behind of a thread: its timer slack (proc_pid_timerslack_ns(5)) and its I/O priority (ioprio_set(2)). Both can be
 * read of other threads, and set for them. Text travels, a line for each thread that has another than what every thread begins with:
 *
 *   PROCESS THREAD SLACK PRIORITY
 *
 * PROCESS is a pid in the guest, THREAD the thread's id inside the container, which is the same in every guest.
 */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define USUAL_SLACK_NS      50000UL
#define IOPRIO_WHO_PROCESS  1

struct trait {
    unsigned process, thread;
    unsigned long slack;
    int priority;
};

static unsigned long slack_of(unsigned tid)
{
    char path[64], text[32];

    snprintf(path, sizeof path, "/proc/%u/timerslack_ns", tid);
    return read_text(path, text, sizeof text) > 0 ? strtoul(text, NULL, 10) : USUAL_SLACK_NS;
}

/* The id of a thread in its innermost PID namespace. */
static unsigned inner_id(unsigned pid, unsigned tid)
{
    char path[80], text[4096];
    const char *line, *end;

    snprintf(path, sizeof path, "/proc/%u/task/%u/status", pid, tid);
    if (read_text(path, text, sizeof text) <= 0 || !(line = strstr(text, "\nNSpid:"))) return 0;
    end = strchr(line + 1, '\n');
    while (end && end > line && end[-1] >= '0' && end[-1] <= '9') end--;
    return end ? (unsigned)strtoul(end, NULL, 10) : 0;
}

static DIR *threads_of(unsigned pid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%u/task", pid);
    return opendir(path);
}

/* The next thread; 0 after the last. */
static unsigned next_thread(DIR *threads)
{
    const struct dirent *entry;

    while ((entry = readdir(threads)))
        if (entry->d_name[0] != '.') return (unsigned)strtoul(entry->d_name, NULL, 10);
    return 0;
}

static int64_t add_task(unsigned pid, char *text, size_t size, size_t used)
{
    DIR *threads = threads_of(pid);
    unsigned tid;

    /* A task that has ended meanwhile has no traits. */
    if (!threads) return (int64_t)used;
    while ((tid = next_thread(threads))) {
        unsigned long slack = slack_of(tid);
        long priority = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid);
        int bytes;

        /* Without one of its own the kernel tells what follows from the niceness (block/ioprio.c, get_task_ioprio). */
        if (slack == USUAL_SLACK_NS && priority <= 0) continue;
        bytes = snprintf(text + used, size - used, "%u %u %lu %ld\n", pid, inner_id(pid, tid), slack,
                         priority < 0 ? 0 : priority);
        if (bytes < 0 || (size_t)bytes >= size - used) {
            closedir(threads);
            return -E2BIG;
        }
        used += (size_t)bytes;
    }
    closedir(threads);
    return (int64_t)used;
}

int64_t read_traits(const uint32_t *pids, size_t count, char *text, size_t size)
{
    int64_t used = 0;

    for (size_t i = 0; i < count && used >= 0; i++) used = add_task(pids[i], text, size, (size_t)used);
    return used;
}

static int set_trait(const struct trait *trait, unsigned tid)
{
    char path[64], text[32];
    int error = 0;

    snprintf(path, sizeof path, "/proc/%u/timerslack_ns", tid);
    snprintf(text, sizeof text, "%lu", trait->slack);
    if (slack_of(tid) != trait->slack) error = write_text(path, text);
    if (error == 0 && trait->priority > 0 && syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, trait->priority) < 0)
        error = -errno;
    return error;
}

static int set_in_task(const struct trait *trait)
{
    DIR *threads = threads_of(trait->process);
    unsigned tid;
    int error = -ESRCH;

    if (!threads) return -ESRCH;
    while ((tid = next_thread(threads)))
        if (inner_id(trait->process, tid) == trait->thread) {
            error = set_trait(trait, tid);
            break;
        }
    closedir(threads);
    return error;
}

int64_t set_traits(const char *text)
{
    int64_t count = 0;

    for (const char *line = text; *line; count++) {
        struct trait trait;
        const char *end = strchr(line, '\n');
        int error;

        if (!end || sscanf(line, "%u %u %lu %d", &trait.process, &trait.thread, &trait.slack, &trait.priority) != 4)
            return -EINVAL;
        error = set_in_task(&trait);
        if (error < 0) return error;
        line = end + 1;
    }
    return count;
}
