/*
 * What a task's sockets have that CRIU neither dumps nor restores, as far as a second descriptor of the same socket tells. The kernel shows
 * some of it nowhere else; to ask changes nothing.
 */
#include "guest.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

static int option(int fd, int level, int name)
{
    socklen_t length = sizeof(int);
    int value = 0;

    return getsockopt(fd, level, name, &value, &length) < 0 ? 0 : value;
}

/* A program of eBPF has no source to be read back (net/core/filter.c, sk_get_filter). */
static bool has_program(int fd)
{
    socklen_t length = 0;

    return getsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, NULL, &length) < 0 && errno == EACCES;
}

/* Restored without the interface's number, by which alone such an address means something (criu/sk-inet.c, restore_sockaddr). */
static bool has_link_local_peer(int fd)
{
    struct sockaddr_in6 peer = {0};
    socklen_t length = sizeof peer;

    return getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.sin6_family == AF_INET6 &&
           IN6_IS_ADDR_LINKLOCAL(&peer.sin6_addr);
}

static const char *tcp_fault(int fd)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof info, name_length = sizeof(char[16]);
    char name[16] = "";

    if (getsockopt(fd, IPPROTO_TCP, TCP_ULP, name, &name_length) == 0 && name_length > 0 && name[0])
        return "TCP socket with a protocol above it in the kernel (TLS)";
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && info.tcpi_state == TCP_SYN_RECV)
        return "TCP socket that was accepted before its handshake was done (TCP Fast Open)";
    return NULL;
}

static const char *internet_fault(int fd)
{
    int protocol = option(fd, SOL_SOCKET, SO_PROTOCOL), type = option(fd, SOL_SOCKET, SO_TYPE);

    if (has_program(fd)) return "socket with an eBPF filter";
    if (type != SOCK_RAW && has_link_local_peer(fd)) return "socket connected to a link-local address";
    if (protocol == IPPROTO_TCP && type == SOCK_STREAM) return tcp_fault(fd);
    if (protocol == IPPROTO_UDP && option(fd, IPPROTO_UDP, UDP_CORK)) return "UDP socket that is corked (UDP_CORK)";
    return NULL;
}

static const char *unix_fault(int fd)
{
    int unread = 0;
    bool says_who = option(fd, SOL_SOCKET, SO_PASSCRED) || option(fd, SOL_SOCKET, SO_PASSSEC) ||
                    option(fd, SOL_SOCKET, SO_PASSPIDFD);

    /* What comes with each message is no descriptor, which is all that CRIU takes (criu/sk-queue.c, dump_packet_cmsg). */
    if (says_who && ioctl(fd, FIONREAD, &unread) == 0 && unread > 0)
        return "UNIX socket with unread messages and their senders (SO_PASSCRED)";
    return NULL;
}

const char *socket_fault(pid_t pid, int number)
{
    int fd = borrow_descriptor(pid, number);
    const char *fault = NULL;

    if (fd < 0) return NULL;
    switch (option(fd, SOL_SOCKET, SO_DOMAIN)) {
    case AF_INET:
    case AF_INET6:
        fault = internet_fault(fd);
        break;
    case AF_UNIX:
        fault = unix_fault(fd);
        break;
    default:
        fault = has_program(fd) ? "socket with an eBPF filter" : NULL;
    }
    close(fd);
    return fault;
}
