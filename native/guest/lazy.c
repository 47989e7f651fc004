/*
 * The keeper of a post-copy: runs `criu lazy-pages` and holds the userfaultfds beside it.
 *
 * When the last holder of a userfaultfd closes it, its tasks get zeros for every page that has not come. A
 * CRIU that fails (its connection broke, it was killed) would do just that to a container that runs. Held
 * here too, the tasks only wait, and are ended before this program lets go.
 *
 * Files in JOB besides those of a job: `hold` asks for the hold, `held` says that it is there; `failed` has
 * CRIU's exit code as soon as it is known; `ask` is taken away while CRIU lives; `give-up` says that the pages
 * will never come. The descriptors are fetched anew at each look, as tasks that fork get new ones and those of
 * tasks that have all their pages must go: a task that forks and a CRIU that dies within one such span are not
 * covered.
 */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_EVERY_MS   20
#define KILL_TIMEOUT_MS 10000
#define MAX_HELD        4096

struct keeper {
    const char *job, *cgroup;
    pid_t criu;
    int criu_fd;
    int held[MAX_HELD];
    size_t count;
};

static int is_there(const struct keeper *keeper, const char *name)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", keeper->job, name);
    return access(path, F_OK) == 0;
}

static void remove_file(const struct keeper *keeper, const char *name)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", keeper->job, name);
    (void)unlink(path);
}

static int is_userfaultfd(const char *directory, const char *name)
{
    char path[PATH_MAX], target[64];
    ssize_t length;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    length = readlink(path, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = '\0';
    return strcmp(target, "anon_inode:[userfaultfd]") == 0;
}

static void let_go(int *fds, size_t count)
{
    while (count > 0) close(fds[--count]);
}

/* Duplicates of all that CRIU has now into `fds`; answers their number, or a negative errno when one could not
 * be had. */
static int64_t take(const struct keeper *keeper, int *fds)
{
    char path[64];
    size_t count = 0;
    int error = 0;
    struct dirent *entry;
    DIR *directory;

    snprintf(path, sizeof path, "/proc/%d/fd", keeper->criu);
    directory = opendir(path);
    if (!directory) return -errno;
    while (error == 0 && (entry = readdir(directory))) {
        int fd;

        if (!is_userfaultfd(path, entry->d_name)) continue;
        fd = count < MAX_HELD ? (int)syscall(SYS_pidfd_getfd, keeper->criu_fd, atoi(entry->d_name), 0) : -1;
        if (fd >= 0)
            fds[count++] = fd;
        else
            error = count < MAX_HELD ? -errno : -EMFILE;
    }
    closedir(directory);
    if (error == 0) return (int64_t)count;
    let_go(fds, count);
    return error;
}

/*
 * Holds what CRIU has now in place of what it had before; answers how many that are. A process that ends has
 * no descriptors before it can be seen to have ended: with none, or with one missing, what was held stays
 * until the end is known or the next look finds them all.
 */
static int64_t hold(struct keeper *keeper)
{
    int fds[MAX_HELD];
    int64_t count = take(keeper, fds);

    if (count <= 0) return count;
    let_go(keeper->held, keeper->count);
    memcpy(keeper->held, fds, (size_t)count * sizeof *fds);
    keeper->count = (size_t)count;
    return count;
}

/* Ends the tasks that wait, and only then stops holding what they wait on. */
static void end_container(struct keeper *keeper)
{
    int error = cgroup_kill(keeper->cgroup, KILL_TIMEOUT_MS);

    /* A cgroup that is gone has no tasks. Else rather a task that waits for ever than one that reads zeros. */
    if (error < 0 && error != -ENOENT)
        for (;;) pause();
}

/* Until CRIU ends; answers its exit code, or a negative errno when that cannot be watched. */
static int serve(struct keeper *keeper)
{
    struct pollfd poll_criu = {.fd = keeper->criu_fd, .events = POLLIN};
    int status, holding = 0;

    for (;;) {
        int ready = poll(&poll_criu, 1, LOOK_EVERY_MS);

        if (ready > 0) break;
        if (ready < 0 && errno != EINTR) return -errno;
        if (is_there(keeper, "give-up")) {
            end_container(keeper);
            kill(keeper->criu, SIGKILL);
        }
        if (!holding && !is_there(keeper, "hold")) continue;
        if (hold(keeper) <= 0) continue;
        if (!holding) write_number(keeper->job, "held", (int)keeper->count);
        holding = 1;
        /* It had its descriptors a moment ago and has not ended since: it lives, and that is the answer. */
        if (poll(&poll_criu, 1, 0) == 0) remove_file(keeper, "ask");
    }
    while (waitpid(keeper->criu, &status, 0) < 0)
        if (errno != EINTR) return -errno;
    return exit_code(status);
}

int lazy_main(int argc, char **argv)
{
    static struct keeper keeper;
    int status;

    if (argc < 4 || strcmp(argv[2], "--") != 0) return 2;
    keeper.job = argv[0];
    keeper.cgroup = argv[1];
    keeper.criu = start_job(keeper.job, argv + 3);
    if (keeper.criu < 0) return 1;
    keeper.criu_fd = (int)syscall(SYS_pidfd_open, keeper.criu, 0);
    if (keeper.criu_fd < 0) {
        kill(keeper.criu, SIGKILL);
        return 1;
    }
    status = serve(&keeper);
    if (status < 0) status = 255;
    if (status != 0) {
        /* Said before it is acted on: nobody is to commit to tasks that are about to end. */
        write_number(keeper.job, "failed", status);
        if (is_there(&keeper, "hold")) end_container(&keeper);
    }
    write_number(keeper.job, "status", status);
    return 0;
}
