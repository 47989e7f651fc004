/* The freezer of cgroup v2: what holds both sides' tasks, whatever becomes of CRIU or the agent. */
#include "guest.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

int cgroup_of(pid_t pid, char *path, size_t size)
{
    char proc[64], text[4096];
    const char *line;
    int error;

    snprintf(proc, sizeof proc, "/proc/%d/cgroup", pid);
    error = read_text(proc, text, sizeof text);
    if (error < 0) return error;
    for (line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, "0::", 3) == 0) {
            const char *end = strchrnul(line, '\n');
            int length = snprintf(path, size, CGROUP_ROOT "%.*s", (int)(end - line - 3), line + 3);

            return length < (int)size ? 0 : -ENAMETOOLONG;
        }
    }
    return -ENOENT;
}

static int write_control(const char *path, const char *name, const char *text)
{
    char file[PATH_MAX + 64];

    snprintf(file, sizeof file, "%s/%s", path, name);
    return write_text(file, text);
}

/* Waits until cgroup.events says `what`. */
static int wait_event(const char *path, const char *what, int timeout_ms)
{
    char file[PATH_MAX + 64], events[512];
    int64_t deadline = now_ms() + timeout_ms;
    int error;

    snprintf(file, sizeof file, "%s/cgroup.events", path);
    for (;;) {
        error = read_text(file, events, sizeof events);
        if (error < 0) return error;
        if (strstr(events, what)) return 0;
        if (now_ms() >= deadline) return -ETIMEDOUT;
        sleep_ms(1);
    }
}

int cgroup_freeze(const char *path, int timeout_ms)
{
    int error = write_control(path, "cgroup.freeze", "1");

    return error < 0 ? error : wait_event(path, "frozen 1", timeout_ms);
}

int cgroup_thaw(const char *path)
{
    return write_control(path, "cgroup.freeze", "0");
}

int cgroup_kill(const char *path, int timeout_ms)
{
    int error = write_control(path, "cgroup.kill", "1");

    return error < 0 ? error : wait_event(path, "populated 0", timeout_ms);
}
