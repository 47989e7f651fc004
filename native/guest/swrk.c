/*
 * Stands between runc and the CRIU that it starts as `criu swrk FD` (criu/cr-service.c; packets of images/rpc.proto over a
 * SOCK_SEQPACKET pair), for two reasons:
 *
 *   - Both can be started before the container is frozen. What runc asks for is kept back until the agent says so.
 *   - CRIU tells runc of every stage it comes to. Where a migration is to be held, the answer is kept back, and CRIU need not
 *     start an action script at each of its stages.
 *
 * The process that runc started becomes CRIU, so runc and CRIU are parent and child as ever. The one between is a process of its
 * own, forked before, in the same process group. CRIU looks up runc's directories as fds of the process at the other end of its
 * socket (SO_PEERCRED), which is the one between: it holds the same directories under the same numbers.
 *
 * CRIU lets restored tasks run when it cannot tell anybody that it is about to. So one whose runc was killed is still answered:
 * no to all it asks, and not before its tasks are frozen when it has come that far.
 */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Above all that runc has open. */
#define OWN_FDS 1000

/* The directories that `runc` has open, under the same numbers. */
static int copy_directories(pid_t runc)
{
    char path[64], name[PATH_MAX];
    struct dirent *entry;
    struct stat status;
    int high;
    DIR *list;

    snprintf(path, sizeof path, "/proc/%d/fd", runc);
    high = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (high < 0) return -errno;
    list = fdopendir(fcntl(high, F_DUPFD_CLOEXEC, OWN_FDS));
    close(high);
    if (!list) return -errno;
    while ((entry = readdir(list))) {
        int number = atoi(entry->d_name), fd;

        if (number <= STDERR_FILENO || number >= OWN_FDS) continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (stat(name, &status) != 0 || !S_ISDIR(status.st_mode)) continue;
        fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || (fd != number && dup3(fd, number, O_CLOEXEC) < 0)) return -errno;
        if (fd != number) close(fd);
    }
    closedir(list);
    return 0;
}

/* Neither the container's cgroup nor its pipes, and out of the way of the kernel's search for memory. */
static int stand_alone(int *runc, int *handover)
{
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    char pid[16];
    int error;

    prctl(PR_SET_NAME, "mwarp-between");
    snprintf(pid, sizeof pid, "%d", getpid());
    error = write_text(CGROUP_ROOT "/cgroup.procs", pid);
    if (error < 0) return error;
    write_text("/proc/self/oom_score_adj", "-1000");
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (dup2(nothing, fd) < 0) return -errno;
    *runc = fcntl(*runc, F_DUPFD_CLOEXEC, OWN_FDS);
    *handover = fcntl(*handover, F_DUPFD_CLOEXEC, OWN_FDS);
    if (*runc < 0 || *handover < 0) return -errno;
    return close_range(STDERR_FILENO + 1, OWN_FDS - 1, 0) < 0 ? -errno : 0;
}

/* One fd, or none when `fd` is negative, with an errno. */
static int hand_over(int socket, int fd, int error)
{
    char control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {&error, sizeof error};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (fd >= 0) {
        struct cmsghdr *header;

        message.msg_control = control;
        message.msg_controllen = sizeof control;
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The fd that was handed over, or a negative errno. */
static int take_over(int socket)
{
    char control[CMSG_SPACE(sizeof(int))];
    int error = -EPIPE, fd;
    struct iovec part = {&error, sizeof error};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header;

    if (recvmsg(socket, &message, 0) != sizeof error || error < 0) return error < 0 ? error : -EPIPE;
    header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_type != SCM_RIGHTS) return -EPROTO;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

static void stand(int runc, int handover, pid_t runc_pid, pid_t criu_pid, const char *images)
{
    int ends[2], criu, error = stand_alone(&runc, &handover);

    if (error == 0) error = copy_directories(runc_pid);
    if (error == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) error = -errno;
    if (error < 0) {
        hand_over(handover, -1, error);
        return;
    }
    criu = fcntl(ends[0], F_DUPFD_CLOEXEC, OWN_FDS);
    close(ends[0]);
    error = hand_over(handover, ends[1], 0);
    close(ends[1]);
    close(handover);
    if (error == 0 && criu >= 0) between_carry(runc, criu, criu_pid, images);
}

int swrk_stand_between(int server, const char *images)
{
    pid_t runc = getppid(), criu = getpid(), child;
    int handover[2], end;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, handover) < 0) return -errno;
    child = fork();
    if (child < 0) return -errno;
    if (child == 0) {
        /* CRIU looks at every child it finds: this one must not be one of its own. */
        if (fork() == 0) {
            close(handover[0]);
            stand(server, handover[1], runc, criu, images);
        }
        _exit(0);
    }
    close(handover[1]);
    waitpid(child, NULL, 0);
    end = take_over(handover[0]);
    close(handover[0]);
    if (end < 0) return end;
    /* From here on runc's socket is only where the one between has it. */
    if (dup2(end, server) < 0) return -errno;
    close(end);
    return 0;
}
