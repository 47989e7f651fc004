#include "datagrams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define MOST_BYTES (48U << 20)

struct records {
    uint8_t *bytes;
    size_t used, room;
};

/* A descriptor of the same socket. What is asked of it, and set in it, is asked of and set in the task's. */
int borrow_descriptor(pid_t pid, int fd)
{
    int task = (int)syscall(SYS_pidfd_open, pid, 0), error, own;

    if (task < 0) return -errno;
    own = (int)syscall(SYS_pidfd_getfd, task, fd, 0);
    error = errno;
    close(task);
    return own < 0 ? -error : own;
}

static int put(struct records *records, const struct ends *ends, const uint8_t *bytes, size_t length)
{
    struct datagram head = {.ends = *ends, .length = (uint32_t)length};
    size_t more = sizeof head + length;

    if (records->used + more > MOST_BYTES) return -E2BIG;
    if (records->used + more > records->room) {
        size_t room = 2 * (records->room + more);
        uint8_t *grown = realloc(records->bytes, room);

        if (!grown) return -ENOMEM;
        records->bytes = grown;
        records->room = room;
    }
    memcpy(records->bytes + records->used, &head, sizeof head);
    memcpy(records->bytes + records->used + sizeof head, bytes, length);
    records->used += more;
    return 0;
}

/* An IPv4 address in an IPv6 socket (::ffff:a.b.c.d) is what it is on the wire. */
static void put_address(uint8_t *to, uint32_t *family, const struct in6_addr *address)
{
    *family = IN6_IS_ADDR_V4MAPPED(address) ? 4 : 6;
    memcpy(to, *family == 4 ? &address->s6_addr[12] : address->s6_addr, *family == 4 ? 4 : 16);
}

/* Who sent it and to which address; what the kernel has joined (UDP_GRO) comes apart again. */
static int read_message(struct records *records, struct msghdr *message, size_t length, uint16_t port)
{
    struct ends ends = {.family = 4, .port = port};
    const struct sockaddr *from = message->msg_name;
    uint8_t *bytes = message->msg_iov->iov_base;
    size_t piece = length;
    int error = 0;

    if (from->sa_family == AF_INET) {
        memcpy(ends.peer, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
    } else {
        put_address(ends.peer, &ends.family, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr);
    }
    /* The port lies at the same place in both kinds of addresses. */
    ends.peer_port = ntohs(((const struct sockaddr_in *)(const void *)from)->sin_port);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
            memcpy(ends.address, &((struct in_pktinfo *)(void *)CMSG_DATA(c))->ipi_addr, 4);
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
            put_address(ends.address, &ends.family, &((struct in6_pktinfo *)(void *)CMSG_DATA(c))->ipi6_addr);
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;

            memcpy(&size, CMSG_DATA(c), sizeof size);
            if (size > 0) piece = (size_t)size;
        }
    }
    do {
        size_t part = piece < length ? piece : length;

        error = put(records, &ends, bytes, part);
        bytes += part;
        length -= part;
    } while (error == 0 && length > 0);
    return error;
}

static int read_queue(struct records *records, int fd, uint16_t port)
{
    static uint8_t bytes[1 << 16];
    _Alignas(struct cmsghdr) char control[512];
    struct sockaddr_in6 from;
    int error = 0;

    while (error == 0) {
        struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
        struct msghdr message = {.msg_name = &from,
                                 .msg_namelen = sizeof from,
                                 .msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof control};
        ssize_t got = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);

        if (got < 0) return errno == EAGAIN ? 0 : -errno;
        error = read_message(records, &message, (size_t)got, port);
    }
    return error;
}

struct setting {
    int level, name, value, before;
};

/* Sets each, and keeps what it was; those that were set before one that could not be are put back. */
static int put_settings(int fd, struct setting *settings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        socklen_t length = sizeof settings[i].before;
        int error = 0;

        if (getsockopt(fd, settings[i].level, settings[i].name, &settings[i].before, &length) < 0)
            error = -errno;
        if (error == 0 &&
            setsockopt(fd, settings[i].level, settings[i].name, &settings[i].value, sizeof(int)) < 0)
            error = -errno;
        if (error == 0) continue;
        while (i-- > 0) setsockopt(fd, settings[i].level, settings[i].name, &settings[i].before, sizeof(int));
        return error;
    }
    return 0;
}

static int restore_settings(int fd, const struct setting *settings, size_t count)
{
    int error = 0;

    for (size_t i = 0; i < count; i++)
        if (setsockopt(fd, settings[i].level, settings[i].name, &settings[i].before, sizeof(int)) < 0)
            error = -errno;
    return error;
}

static int peek(pid_t pid, int fd, struct records *found)
{
    /* With an offset each look goes on behind the last, and the kernel says to which address it was sent. */
    struct setting four[] = {{SOL_SOCKET, SO_PEEK_OFF, 0, 0}, {IPPROTO_IP, IP_PKTINFO, 1, 0}};
    struct setting six[] = {{SOL_SOCKET, SO_PEEK_OFF, 0, 0}, {IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, 0}};
    struct sockaddr_in6 own = {0};
    socklen_t length = sizeof own;
    struct setting *settings;
    int error, restored, borrowed = borrow_descriptor(pid, fd);

    if (borrowed < 0) return borrowed;
    error = getsockname(borrowed, (struct sockaddr *)&own, &length) < 0 ? -errno : 0;
    settings = own.sin6_family == AF_INET6 ? six : four;
    if (error == 0) error = put_settings(borrowed, settings, 2);
    if (error == 0) {
        error = read_queue(found, borrowed, ntohs(own.sin6_port));
        restored = restore_settings(borrowed, settings, 2);
        if (error == 0) error = restored;
    }
    close(borrowed);
    return error;
}

int64_t peek_datagrams(pid_t pid, int fd, int file)
{
    int status;
    pid_t child = fork();

    if (child < 0) return -errno;
    if (child == 0) {
        struct records found = {0};
        int error = peek(pid, fd, &found);

        if (error == 0) error = write_all(file, found.bytes, found.used);
        _exit(-error);
    }
    if (waitpid(child, &status, 0) < 0) return -errno;
    if (!WIFEXITED(status)) return -EINTR;
    return WEXITSTATUS(status) > 0 ? -WEXITSTATUS(status) : lseek(file, 0, SEEK_CUR);
}

static int64_t deliver_all(const struct entrance *entrance, const uint8_t *at, size_t length)
{
    int64_t delivered = 0;

    while (length > 0) {
        struct datagram head;
        int error;

        if (length < sizeof head) return -EINVAL;
        memcpy(&head, at, sizeof head);
        at += sizeof head;
        length -= sizeof head;
        if (head.length > length) return -EINVAL;
        error = send_datagram(entrance, &head.ends, at, head.length);
        if (error < 0) return error;
        at += head.length;
        length -= head.length;
        delivered++;
    }
    return delivered;
}

int64_t deliver_datagrams(const struct link_place *place, const uint8_t *records, size_t length)
{
    struct entrance entrance;
    int error = entrance_open(&entrance, place->veth, place->mac);
    int64_t delivered = error < 0 ? error : deliver_all(&entrance, records, length);

    entrance_close(&entrance);
    return delivered;
}
