/* Carries packets between runc and CRIU, and holds CRIU where a migration is to be held; see swrk.c. */
#include "guest.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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
#define FIELD_PID            2
#define FIELD_NOTIFY_SCRIPTS 12
/* criu_resp. */
#define FIELD_NOTIFY 5
/* criu_notify. */
#define FIELD_SCRIPT     1
#define FIELD_SCRIPT_PID 2

/* A criu_req of type NOTIFY that says no. */
static const unsigned char refusal[] = {0x08, NOTIFY, 0x18, 0x00};
static const unsigned char consent[] = {0x08, NOTIFY, 0x18, 0x01};
/* notify_scripts of criu_opts, true. */
static const unsigned char notify_scripts[] = {FIELD_NOTIFY_SCRIPTS << 3, 1};

#define MOST_FDS     4
#define NAME_SIZE    64
#define VARINT_BYTES 10

struct packet {
    unsigned char *bytes;
    size_t length;
    char control[CMSG_SPACE(MOST_FDS * sizeof(int))];
    size_t control_length;
};

struct between {
    /* -1: runc is gone. */
    int runc, criu;
    /* CRIU has said how it ended, and runc need not hear more. */
    bool done;
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

int between_is_wanted(int server)
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

/* Key and length of a field with a length. Returns their bytes. */
static size_t write_head(unsigned char *at, uint32_t number, uint64_t length)
{
    size_t used = 0;

    at[used++] = (unsigned char)(number << 3 | 2);
    do {
        at[used++] = (unsigned char)((length & 0x7f) | (length > 0x7f ? 0x80 : 0));
        length >>= 7;
    } while (length > 0);
    return used;
}

/* Has CRIU tell of its stages also where the runtime does not want to know: crun does not, of a dump. It says yes to all then. */
static int want_stages(struct packet *packet, const struct protobuf_field *options)
{
    unsigned char head[1 + VARINT_BYTES], *bytes, *at;
    const unsigned char *rest = options->bytes + options->length;
    struct protobuf_field asked;
    size_t before, left;

    if (protobuf_find(options->bytes, options->length, FIELD_NOTIFY_SCRIPTS, &asked) && asked.value != 0)
        return 0;
    /* Written as libraries write it, there is but one way to put the old head. */
    before = (size_t)(options->bytes - packet->bytes) - write_head(head, FIELD_OPTIONS, options->length);
    if (before > packet->length ||
        memcmp(packet->bytes + before, head, (size_t)(options->bytes - packet->bytes) - before) != 0)
        return -EPROTO;
    bytes = malloc(packet->length + sizeof head + sizeof notify_scripts);
    if (!bytes) return -ENOMEM;
    at = mempcpy(bytes, packet->bytes, before);
    at += write_head(at, FIELD_OPTIONS, options->length + sizeof notify_scripts);
    at = mempcpy(at, options->bytes, options->length);
    at = mempcpy(at, notify_scripts, sizeof notify_scripts);
    left = packet->length - (size_t)(rest - packet->bytes);
    at = mempcpy(at, rest, left);
    free(packet->bytes);
    packet->length = (size_t)(at - bytes);
    packet->bytes = bytes;
    return 0;
}

/* What runc asks for, when the agent wants it. The root of a dump is known by then. */
static int pass_request(struct between *between)
{
    struct packet packet;
    struct protobuf_field options, pid;
    int error = receive(between->runc, &packet);

    if (error == 1) {
        if (protobuf_find(packet.bytes, packet.length, FIELD_OPTIONS, &options)) {
            if (protobuf_find(options.bytes, options.length, FIELD_PID, &pid))
                between->stage.init = (pid_t)pid.value;
            error = want_stages(&packet, &options);
        }
        between->stage.name = "begin";
        if (error >= 0)
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

static int answer(struct between *between, bool yes)
{
    const unsigned char *bytes = yes ? consent : refusal;

    return send(between->criu, bytes, sizeof refusal, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void runc_is_gone(struct between *between)
{
    if (between->runc >= 0) close(between->runc);
    between->runc = -1;
}

/* Nobody else answers. A dump ends at the first no, and so does a restore whose tasks have not come to be. */
static int answer_for_runc(struct between *between)
{
    between->stage.name = between->name;
    if (strcmp(between->name, "pre-resume") == 0) return answer(between, stage_hold(&between->stage) == 0);
    return between->name[0] == '\0' ? 0 : answer(between, false);
}

static int from_criu(struct between *between)
{
    struct packet packet;
    int error = receive(between->criu, &packet);

    spent(between, &between->stage.criu_us);
    if (error == 1) {
        note_stage(between, &packet);
        between->done |= between->name[0] == '\0';
        error = between->runc < 0 ? -EPIPE : deliver(between->runc, &packet);
        if (error < 0 && !between->done) {
            runc_is_gone(between);
            error = answer_for_runc(between);
        }
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
            error = answer(between, false);
        } else {
            error = deliver(between->criu, &packet);
        }
        between->name[0] = '\0';
        spent(between, NULL);
    } else if (error == 0 || !between->done) {
        runc_is_gone(between);
        if (between->done) shutdown(between->criu, SHUT_WR);
        error = between->done ? 0 : answer_for_runc(between);
        between->name[0] = '\0';
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
        if (polls[1].revents && between->runc >= 0 && from_runc(between) < 0) return;
    }
}

void between_carry(int runc, int criu, pid_t criu_pid, const char *images)
{
    struct between between = {.runc = runc, .criu = criu, .stage = {.images = images, .criu = criu_pid}};

    carry(&between);
}
