/*
 * What happens at the stages of CRIU at which a migration is held. Called as CRIU's action script, which CRIU runs at every
 * stage, or by who stands between runc and CRIU (swrk.c), who has no program started for it. These matter:
 *
 *   begin       (swrk.c only) CRIU is started and has not been told yet what to do. Exit 0: it is told.
 *   post-dump   the source is dumped and held by ptrace alone: freeze its cgroup, then wait for the verdict.
 *               Exit 0: CRIU kills the source. Anything else: CRIU lets go (and the cgroup still holds the
 *               tasks).
 *   pre-resume  the restored tasks stand at their first instruction: freeze them, then wait. CRIU goes on
 *               whatever this program answers, also when it was killed, so the freezer alone holds the
 *               destination back: the freeze comes before anything else, and tasks that must not run are dead
 *               before CRIU hears of it.
 *
 * The freeze is done here and not in the agent, so that it happens even when no agent is alive. The verdict
 * is asked of the agent over a UNIX socket; a given verdict also lies in a file, which an agent that was
 * restarted, and a second call for the same stage, find again. Who uses CRIU for something else is left
 * alone: exit 0 at once.
 */
#include "guest.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* How long a hook waits for an agent that is gone before it gives up; tasks that it froze stay frozen then. */
#define AGENT_GONE_MS     120000
#define FREEZE_TIMEOUT_MS 20000
#define KILL_TIMEOUT_MS   10000
/* A CRIU that stands by for longer than a migration prepares was forgotten. */
#define BEGIN_TIMEOUT_S   1800
#define NO_ANSWER         (-1)

/* The verdict file of this stage: 0 or 1, or NO_ANSWER while none was given. */
static int verdict_on_file(const char *path)
{
    char text[16];

    if (read_text(path, text, sizeof text) < 1) return NO_ANSWER;
    return text[0] == '0' ? 0 : 1;
}

/* CRIU sits in the cgroup of the container it restores (runc puts it there): frozen with it, nothing would
 * move on. */
static int leave_cgroup(pid_t criu)
{
    char pid[16];
    int error;

    snprintf(pid, sizeof pid, "%d", criu);
    error = write_text(CGROUP_ROOT "/cgroup.procs", pid);
    if (error < 0) return error;
    snprintf(pid, sizeof pid, "%d", getpid());
    return write_text(CGROUP_ROOT "/cgroup.procs", pid);
}

/* The cgroup that holds the container and nothing else of this VM. */
static int container_cgroup(pid_t init, char *path, size_t size)
{
    int error = init > 1 ? cgroup_of(init, path, size) : -ESRCH;

    if (error < 0) return error;
    return strcmp(path, CGROUP_ROOT "/") == 0 ? -EINVAL : 0;
}

static int ask_agent(const struct stage *stage, int freeze_error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval longest = {.tv_sec = BEGIN_TIMEOUT_S};
    char request[PATH_MAX + 256], answer;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error, length;

    if (fd < 0) return -errno;
    if (strcmp(stage->name, "begin") == 0) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
    strncpy(address.sun_path, ACTION_SOCKET, sizeof address.sun_path - 1);
    length = snprintf(request, sizeof request, "%s %d %d %d %d %lld %lld %s\n", stage->name, stage->init,
                      getpid(), stage->criu, -freeze_error, (long long)stage->criu_us,
                      (long long)stage->runc_us, stage->images);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        error = -errno;
    else
        error = write_all(fd, request, (size_t)length);
    if (error == 0) error = read_all(fd, &answer, 1);
    close(fd);
    if (error < 0) return error;
    return answer == '0' ? 0 : 1;
}

/* Waits for the verdict: from the agent, or from the file when an agent wrote it and then died. */
static int wait_verdict(const struct stage *stage, const char *verdict, int freeze_error)
{
    int64_t agent_seen = now_ms();
    int answer;

    for (;;) {
        int reply = ask_agent(stage, freeze_error);

        if (reply >= 0) return reply;
        answer = verdict_on_file(verdict);
        if (answer != NO_ANSWER || reply == -EAGAIN) return answer;
        if (reply == -EPIPE) agent_seen = now_ms();
        if (now_ms() - agent_seen > AGENT_GONE_MS) return NO_ANSWER;
        sleep_ms(50);
    }
}

/*
 * Without a cgroup there is neither freezer nor cgroup.kill. Init's death takes all of its PID namespace
 * along; CRIU, which holds them by ptrace, must outlive it.
 */
static void kill_without_cgroup(pid_t init, pid_t criu)
{
    int64_t deadline = now_ms() + KILL_TIMEOUT_MS;
    char proc[64], text[512];

    if (init > 1) {
        snprintf(proc, sizeof proc, "/proc/%d/cmdline", init);
        kill(init, SIGKILL);
        /* Empty once its memory is gone; it signals the others shortly after. */
        while (read_text(proc, text, sizeof text) > 0 && now_ms() < deadline) sleep_ms(1);
        sleep_ms(200);
    }
    kill(criu, SIGKILL);
}

static int post_dump(const struct stage *stage, const char *verdict)
{
    char cgroup[PATH_MAX];
    int error, answer = verdict_on_file(verdict);

    if (answer != NO_ANSWER) return answer;
    error = container_cgroup(stage->init, cgroup, sizeof cgroup);
    if (error == 0) error = cgroup_freeze(cgroup, FREEZE_TIMEOUT_MS);
    return wait_verdict(stage, verdict, error) == 0 ? 0 : 1;
}

static int pre_resume(const struct stage *stage, const char *verdict)
{
    char cgroup[PATH_MAX];
    int error, answer;

    if (container_cgroup(stage->init, cgroup, sizeof cgroup) < 0) {
        kill_without_cgroup(stage->init, stage->criu);
        return 1;
    }
    error = leave_cgroup(stage->criu);
    if (error == 0) error = cgroup_freeze(cgroup, FREEZE_TIMEOUT_MS);
    if (error < 0) {
        /* Nothing would hold these tasks, and nothing was committed yet: the source still has it all. */
        cgroup_kill(cgroup, KILL_TIMEOUT_MS);
        return 1;
    }
    answer = verdict_on_file(verdict);
    if (answer == 0) {
        /* Committed, and told before: who thaws the tasks has been here already. */
        cgroup_thaw(cgroup);
        return 0;
    }
    if (answer == NO_ANSWER) answer = wait_verdict(stage, verdict, 0);
    if (answer == 0) return 0;
    /* Without a verdict the tasks stay frozen: the agent to come may still be told to commit. */
    if (answer != NO_ANSWER) cgroup_kill(cgroup, KILL_TIMEOUT_MS);
    return 1;
}

static int begin(const struct stage *stage, const char *verdict)
{
    int answer = verdict_on_file(verdict);

    if (answer == NO_ANSWER) answer = wait_verdict(stage, verdict, 0);
    return answer == 0 ? 0 : 1;
}

int stage_hold(const struct stage *stage)
{
    const char *slash = strrchr(stage->images, '/');
    char verdict[PATH_MAX + 64];

    if (!slash) return 0;
    snprintf(verdict, sizeof verdict, "%.*s/verdict.%s", (int)(slash - stage->images), stage->images,
             stage->name);
    if (strcmp(stage->name, "begin") == 0) return begin(stage, verdict);
    if (strcmp(stage->name, "post-dump") == 0) return post_dump(stage, verdict);
    if (strcmp(stage->name, "pre-resume") == 0) return pre_resume(stage, verdict);
    return 0;
}

int action_main(void)
{
    const char *action = getenv("CRTOOLS_SCRIPT_ACTION"), *directory = getenv("CRTOOLS_IMAGE_DIR"),
               *init_pid = getenv("CRTOOLS_INIT_PID");
    char images[PATH_MAX];
    struct stage stage;
    ssize_t length;

    if (!action || !directory || !init_pid) return 0;
    length = readlink(directory, images, sizeof images - 1);
    if (length < 0) return 0;
    images[length] = '\0';
    if (strncmp(images, MIGRATIONS_DIR, strlen(MIGRATIONS_DIR)) != 0) return 0;

    stage = (struct stage){.name = action,
                           .images = images,
                           .init = atoi(init_pid),
                           .criu = getppid(),
                           .criu_us = -1,
                           .runc_us = -1};
    return stage_hold(&stage);
}
