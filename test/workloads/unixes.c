/*
 * unixes: holds UNIX sockets with all that may lie in them: pairs of each type with queued messages in both directions, descriptors
 * on their way (the read end of a pipe that nobody else has, a file, one end of another pair), one end shut, a listener with a
 * connection that nobody has accepted, and a bound datagram socket with a queue.
 *
 * Output: "unixes ready", and for each SIGUSR1 "verify ok|BAD ...": everything is read, compared, and sent anew.
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { TYPES = 3, MESSAGES = 4, LONGEST = 3000, PASSED = 3 };
static const int types[TYPES] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
static const size_t lengths[MESSAGES] = {1, 700, LONGEST, 64};
static const char LISTENER[] = "/tmp/unixes-listener", BOUND[] = "/tmp/unixes-bound", FILE_NAME[] = "/tmp/unixes-file";

static int pairs[TYPES][2], carriers[TYPES][2], shut[2], kept[2], listener, waiting, bound, sender;
static unsigned round_number, bad;
static char first_fault[160];

static void check(bool fine, const char *what)
{
    if (fine) return;
    if (bad++ == 0) snprintf(first_fault, sizeof first_fault, "%s (%s)", what, strerror(errno));
}

static uint8_t byte_of(unsigned seed, size_t at)
{
    return (uint8_t)mix64((uint64_t)seed << 32 | at);
}

static void send_all(int fd, unsigned seed)
{
    uint8_t bytes[LONGEST];

    for (unsigned i = 0; i < MESSAGES; i++) {
        for (size_t at = 0; at < lengths[i]; at++) bytes[at] = byte_of(seed + i, at);
        check(send(fd, bytes, lengths[i], 0) == (ssize_t)lengths[i], "send");
    }
}

/* Message by message, and of a stream as many bytes as there were; and then nothing more. */
static void receive_all(int fd, unsigned seed)
{
    uint8_t bytes[LONGEST + 1];

    for (unsigned i = 0; i < MESSAGES; i++) {
        int type;
        socklen_t size = sizeof type;
        size_t room;

        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
        room = type == SOCK_STREAM ? lengths[i] : sizeof bytes;
        check(recv(fd, bytes, room, MSG_DONTWAIT | (type == SOCK_STREAM ? MSG_WAITALL : 0)) == (ssize_t)lengths[i], "receive");
        for (size_t at = 0; at < lengths[i]; at++) check(bytes[at] == byte_of(seed + i, at), "contents");
    }
    check(recv(fd, bytes, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "nothing twice");
}

static void pass_descriptors(int fd)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int[PASSED]))] = {0};
    char byte = (char)round_number;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    int pipe_ends[2], passed[PASSED];

    if (pipe(pipe_ends)) die("pipe: %s", strerror(errno));
    check(write(pipe_ends[1], "in the pipe", 12) == 12, "pipe");
    passed[0] = pipe_ends[0];
    passed[1] = open(FILE_NAME, O_RDWR | O_CREAT | O_TRUNC, 0600);
    passed[2] = kept[1];
    check(write(passed[1], &round_number, sizeof round_number) == (ssize_t)sizeof round_number, "file");
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof passed);
    memcpy(CMSG_DATA(rights), passed, sizeof passed);
    check(sendmsg(fd, &message, 0) == 1, "pass");
    /* The pipe is in flight and nowhere else. */
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    close(passed[1]);
}

static void take_descriptors(int fd)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int[PASSED]))] = {0};
    char byte = 0, text[16] = "";
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int passed[PASSED] = {-1, -1, -1};
    unsigned number = 0;

    check(recvmsg(fd, &message, MSG_DONTWAIT) == 1 && byte == (char)round_number, "message with descriptors");
    if (!CMSG_FIRSTHDR(&message) || CMSG_FIRSTHDR(&message)->cmsg_len != CMSG_LEN(sizeof passed)) {
        check(false, "descriptors");
        return;
    }
    memcpy(passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof passed);
    check(read(passed[0], text, sizeof text) == 12 && strcmp(text, "in the pipe") == 0, "what is in the pipe");
    check(read(passed[0], text, sizeof text) == 0, "end of the pipe");
    check(pread(passed[1], &number, sizeof number, 0) == (ssize_t)sizeof number && number == round_number, "what is in the file");
    check(lseek(passed[1], 0, SEEK_CUR) == (off_t)sizeof number, "place in the file");
    check(send(passed[2], "x", 1, 0) == 1 && recv(kept[0], text, sizeof text, MSG_DONTWAIT) == 1, "a socket that was passed");
    for (int i = 0; i < PASSED; i++) close(passed[i]);
}

static int bind_to(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, path);
    unlink(path);
    if (fd < 0 || bind(fd, (void *)&address, sizeof address)) die("%s: %s", path, strerror(errno));
    return fd;
}

static int connect_to(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, path);
    if (fd < 0 || connect(fd, (void *)&address, sizeof address)) die("%s: %s", path, strerror(errno));
    return fd;
}

static void fill(void)
{
    round_number++;
    for (unsigned type = 0; type < TYPES; type++) {
        send_all(pairs[type][0], 100 * round_number + type);
        send_all(pairs[type][1], 200 * round_number + type);
        pass_descriptors(carriers[type][0]);
    }
    send_all(sender, 300 * round_number);
    waiting = connect_to(LISTENER, SOCK_STREAM);
}

static void verify(void)
{
    char byte;
    int accepted;

    bad = 0;
    for (unsigned type = 0; type < TYPES; type++) {
        receive_all(pairs[type][1], 100 * round_number + type);
        receive_all(pairs[type][0], 200 * round_number + type);
        take_descriptors(carriers[type][1]);
    }
    receive_all(bound, 300 * round_number);
    check(recv(shut[1], &byte, 1, MSG_DONTWAIT) == 0, "the end of one that was shut");
    check(send(shut[1], "y", 1, MSG_NOSIGNAL) == 1 && recv(shut[0], &byte, 1, MSG_DONTWAIT) == 1, "the open half");
    accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    check(accepted >= 0, "a connection that waited");
    check(send(waiting, "z", 1, MSG_NOSIGNAL) == 1 && recv(accepted, &byte, 1, 0) == 1 && byte == 'z', "and what it says");
    close(accepted);
    close(waiting);
    say(bad == 0 ? "verify ok round=%u%s" : "verify BAD round=%u: %s", round_number, bad == 0 ? "" : first_fault);
    fill();
}

int main(void)
{
    workload_init();
    for (int type = 0; type < TYPES; type++)
        if (socketpair(AF_UNIX, types[type], 0, pairs[type]) || socketpair(AF_UNIX, types[type], 0, carriers[type]))
            die("socketpair: %s", strerror(errno));
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, shut) || socketpair(AF_UNIX, SOCK_DGRAM, 0, kept)) die("socketpair: %s", strerror(errno));
    shutdown(shut[0], SHUT_WR);
    listener = bind_to(LISTENER, SOCK_STREAM);
    if (fcntl(listener, F_SETFL, O_NONBLOCK) || listen(listener, 4)) die("listen: %s", strerror(errno));
    bound = bind_to(BOUND, SOCK_DGRAM);
    sender = connect_to(BOUND, SOCK_DGRAM);
    fill();
    say("unixes ready");
    for (;;) {
        rest_us(100000);
        if (verify_requested()) verify();
    }
}
