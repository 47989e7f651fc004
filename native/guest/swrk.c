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
 */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Types of criu_req and criu_resp. */
#define DUMP    1
#define RESTORE 2
#define NOTIFY  6
/* criu_req and criu_resp alike. */
#define FIELD_TYPE 1
/* criu_req. */
#define FIELD_OPTIONS 2
/* criu_opts. */
#define FIELD_PID 2
/* criu_resp. */
#define FIELD_NOTIFY 5
/* criu_notify. */
#define FIELD_SCRIPT     1
#define FIELD_SCRIPT_PID 2

/* Above all that runc has open. */
#define OWN_FDS   1000
#define MOST_FDS  4
#define NAME_SIZE 64

/* A criu_req of type NOTIFY that says no. */
static const unsigned char refusal[] = {0x08, NOTIFY, 0x18, 0x00};

struct packet {
    unsigned char *bytes;
    size_t length;
    char control[CMSG_SPACE(MOST_FDS * sizeof(int))];
    size_t control_length;
};

struct between {
    int runc, criu;
    struct stage stage;
    /* The stage that CRIU has told runc of; empty when runc owes no answer. */
    char name[NAME_SIZE];
    /* Until then all was accounted for. */
    int64_t since_us;
};

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* All since the last call was for `*part`, or for nobody. */
static void spent(struct between *between, int64_t *part)
{
    int64_t now = now_us();

    if (part) *part += now - between->since_us;
    between->since_us = now;
}

static uint64_t type_of(const unsigned char *bytes, size_t length)
{
    struct protobuf_field type;

    return protobuf_find(bytes, length, FIELD_TYPE, &type) ? type.value : 0;
}

int swrk_is_held(int server)
{
    unsigned char head[16];
    ssize_t length = recv(server, head, sizeof head, MSG_PEEK);
    uint64_t type = length > 0 ? type_of(head, (size_t)length) : 0;

    return type == DUMP || type == RESTORE;
}

/* 1, 0 when the other side will send no more, or a negative errno. */
static int receive(int fd, struct packet *packet)
{
    struct iovec part;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t length = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC);

    memset(packet, 0, sizeof *packet);
    if (length <= 0) return length < 0 ? -errno : 0;
    packet->bytes = malloc((size_t)length);
    if (!packet->bytes) return -ENOMEM;
    part = (struct iovec){packet->bytes, (size_t)length};
    message.msg_control = packet->control;
    message.msg_controllen = sizeof packet->control;
    length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (length < 0) return -errno;
    packet->length = (size_t)length;
    packet->control_length = message.msg_controllen;
    return 1;
}

static int deliver(int fd, struct packet *packet)
{
    struct iovec part = {packet->bytes, packet->length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (packet->control_length > 0) {
        message.msg_control = packet->control;
        message.msg_controllen = packet->control_length;
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* What went on to the other side is open there; it is not kept here. */
static void discard(struct packet *packet)
{
    struct msghdr message = {.msg_control = packet->control, .msg_controllen = packet->control_length};

    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        int fds[MOST_FDS];

        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS || count > MOST_FDS) continue;
        memcpy(fds, CMSG_DATA(header), count * sizeof(int));
        for (size_t i = 0; i < count; i++) close(fds[i]);
    }
    free(packet->bytes);
}

/* What runc asks for, when the agent wants it. The root of a dump is known by then. */
static int pass_request(struct between *between)
{
    struct packet packet;
    struct protobuf_field options, pid;
    int error = receive(between->runc, &packet);

    if (error == 1) {
        if (protobuf_find(packet.bytes, packet.length, FIELD_OPTIONS, &options) &&
            protobuf_find(options.bytes, options.length, FIELD_PID, &pid))
            between->stage.init = (pid_t)pid.value;
        between->stage.name = "begin";
        error = stage_hold(&between->stage) == 0 ? deliver(between->criu, &packet) : -ECANCELED;
        spent(between, NULL);
    } else if (error == 0) {
        error = -EPIPE;
    }
    discard(&packet);
    return error;
}

/* Notes which stage CRIU is at, and the init of a container that it restores, which it names on the way (ACT_POST_RESTORE). */
static void note_stage(struct between *between, const struct packet *packet)
{
    struct protobuf_field notify, script, pid;

    between->name[0] = '\0';
    if (type_of(packet->bytes, packet->length) != NOTIFY ||
        !protobuf_find(packet->bytes, packet->length, FIELD_NOTIFY, &notify))
        return;
    if (protobuf_find(notify.bytes, notify.length, FIELD_SCRIPT, &script))
        snprintf(between->name, sizeof between->name, "%.*s", (int)script.length, (const char *)script.bytes);
    if (protobuf_find(notify.bytes, notify.length, FIELD_SCRIPT_PID, &pid) && pid.value > 0)
        between->stage.init = (pid_t)pid.value;
}

static int from_criu(struct between *between)
{
    struct packet packet;
    int error = receive(between->criu, &packet);

    spent(between, &between->stage.criu_us);
    if (error == 1) {
        note_stage(between, &packet);
        error = deliver(between->runc, &packet);
    } else if (error == 0) {
        error = -EPIPE;
    }
    discard(&packet);
    return error;
}

static int from_runc(struct between *between)
{
    struct packet packet;
    int error = receive(between->runc, &packet);

    if (between->name[0] != '\0') spent(between, &between->stage.runc_us);
    if (error == 1) {
        between->stage.name = between->name;
        if (between->name[0] != '\0' && stage_hold(&between->stage) != 0) {
            error = send(between->criu, refusal, sizeof refusal, MSG_NOSIGNAL) < 0 ? -errno : 0;
        } else {
            error = deliver(between->criu, &packet);
        }
        between->name[0] = '\0';
        spent(between, NULL);
    } else if (error == 0) {
        /* runc has heard all it wanted, or is dead: CRIU finds out when it reads or ends. */
        shutdown(between->criu, SHUT_WR);
        close(between->runc);
        between->runc = -1;
    }
    discard(&packet);
    return error;
}

/* To the end of either side. */
static void carry(struct between *between)
{
    if (pass_request(between) < 0) return;
    for (;;) {
        struct pollfd polls[2] = {{.fd = between->criu, .events = POLLIN},
                                  {.fd = between->runc, .events = POLLIN}};

        if (poll(polls, 2, -1) < 0) {
            if (errno == EINTR) continue;
            return;
        }
        if (polls[0].revents && from_criu(between) < 0) return;
        if (polls[1].revents && from_runc(between) < 0) return;
    }
}

/* The directories that `runc` has open, under the same numbers. */
static int copy_directories(pid_t runc)
{
    char path[64], name[PATH_MAX];
    struct dirent *entry;
    struct stat status;
    DIR *list;

    snprintf(path, sizeof path, "/proc/%d/fd", runc);
    list = opendir(path);
    if (!list) return -errno;
    while ((entry = readdir(list))) {
        int number = atoi(entry->d_name), fd;

        if (number <= STDERR_FILENO || number >= OWN_FDS || number == dirfd(list)) continue;
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
    struct between between = {.stage = {.images = images, .criu = criu_pid}};
    int ends[2], error = stand_alone(&runc, &handover);

    if (error == 0) error = copy_directories(runc_pid);
    if (error == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) error = -errno;
    if (error < 0) {
        hand_over(handover, -1, error);
        return;
    }
    between.runc = runc;
    between.criu = fcntl(ends[0], F_DUPFD_CLOEXEC, OWN_FDS);
    close(ends[0]);
    error = hand_over(handover, ends[1], 0);
    close(ends[1]);
    close(handover);
    if (error == 0 && between.criu >= 0) carry(&between);
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
