/*
 * odd KIND...: holds things that cannot be moved: aio, io_uring, userfaultfd, memfd_secret, fanotify, mptcp,
 * alg, vsock, namespaces, personality, inheritable; and sockets in a state that cannot: tls, cork, link-local, netlink, senders, early,
 * unaccepted, outside. What this kernel does not give is left out.
 *
 * Output: "odd ready has=KIND,KIND", with a comma at the end.
 */
#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif
enum { UFFD_FOR_USER_MODE_ONLY = 1 };

static long open_aio(void)
{
    static aio_context_t context;

    return syscall(SYS_io_setup, 8, &context);
}

static long open_io_uring(void)
{
    static struct io_uring_params params;

    return syscall(SYS_io_uring_setup, 4, &params);
}

static long open_userfaultfd(void)
{
    return syscall(SYS_userfaultfd, UFFD_FOR_USER_MODE_ONLY);
}

static long open_memfd_secret(void)
{
    long fd = syscall(SYS_memfd_secret, 0);

    if (fd < 0 || ftruncate((int)fd, PAGE_BYTES)) return -1;
    return mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, (int)fd, 0) == MAP_FAILED ? -1 : fd;
}

static long open_fanotify(void)
{
    return fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID, 0);
}

static long open_mptcp(void)
{
    return socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
}

static long open_alg(void)
{
    return socket(AF_ALG, SOCK_SEQPACKET, 0);
}

static long open_vsock(void)
{
    return socket(AF_VSOCK, SOCK_STREAM, 0);
}

/* A child that lives in a user, UTS and IPC namespace of its own; its child has a PID namespace besides. */
static long open_namespaces(void)
{
    int ready[2];
    char done = 0;
    pid_t child;

    if (pipe(ready)) return -1;
    child = fork();
    if (child == 0) {
        done = unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID) == 0;
        if (done && fork() == 0)
            for (;;) pause();
        if (write(ready[1], &done, 1) != 1 || !done) _exit(1);
        for (;;) pause();
    }
    if (child < 0 || read(ready[0], &done, 1) != 1) return -1;
    return done ? 0 : -1;
}

static long set_personality(void)
{
    return personality(ADDR_NO_RANDOMIZE);
}

/* A capability that its programs would inherit, and that it may not have itself. */
static long set_inheritable(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data)) return -1;
    data[0].inheritable |= 1U << CAP_KILL;
    return syscall(SYS_capset, &header, data) ? -1 : prctl(PR_CAPBSET_DROP, CAP_KILL);
}

/* Both ends of a connection to itself, one of them with TLS in the kernel. */
static long open_tls(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1)) return -1;
    if (getsockname(listener, (void *)&address, &length) || connect(fd, (void *)&address, sizeof address)) return -1;
    if (accept(listener, NULL, NULL) < 0) return -1;
    return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls");
}

static long open_cork(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0), yes = 1;

    return setsockopt(fd, IPPROTO_UDP, UDP_CORK, &yes, sizeof yes);
}

static long open_link_local(void)
{
    struct sockaddr_in6 peer = {.sin6_family = AF_INET6, .sin6_port = htons(9)};

    inet_pton(AF_INET6, "fe80::1", &peer.sin6_addr);
    peer.sin6_scope_id = if_nametoindex("eth0");
    return connect(socket(AF_INET6, SOCK_DGRAM, 0), (void *)&peer, sizeof peer);
}

/* Asked a question whose answer nobody reads. */
static long open_netlink(void)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg link;
    } request = {.head = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};

    return send(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), &request, sizeof request, 0);
}

static long open_senders(void)
{
    int pair[2], yes = 1;

    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)) return -1;
    if (setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes)) return -1;
    return send(pair[0], "who", 3, 0);
}

static int to_path(const char *path, int fd, bool serves)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strcpy(address.sun_path, path);
    if (!serves) return connect(fd, (void *)&address, sizeof address);
    return bind(fd, (void *)&address, sizeof address) || listen(fd, 4) ? -1 : 0;
}

/* A client that has sent before anybody accepted it. */
static long open_early(void)
{
    int client = socket(AF_UNIX, SOCK_STREAM, 0);

    if (to_path("/tmp/early", socket(AF_UNIX, SOCK_STREAM, 0), true) || to_path("/tmp/early", client, false)) return -1;
    return send(client, "hello", 5, 0);
}

/* A client of its own that nobody accepts. */
static long open_unaccepted(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1)) return -1;
    if (getsockname(listener, (void *)&address, &length)) return -1;
    return connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&address, sizeof address);
}

/* Whoever serves there is not of this container. */
static long open_outside(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    while (to_path("/tmp/outside", fd, false)) rest_us(100000);
    return fd;
}

static const struct {
    const char *name;
    long (*open)(void);
} kinds[] = {
    {"aio", open_aio},
    {"io_uring", open_io_uring},
    {"userfaultfd", open_userfaultfd},
    {"memfd_secret", open_memfd_secret},
    {"fanotify", open_fanotify},
    {"mptcp", open_mptcp},
    {"alg", open_alg},
    {"vsock", open_vsock},
    {"namespaces", open_namespaces},
    {"personality", set_personality},
    {"inheritable", set_inheritable},
    {"tls", open_tls},
    {"cork", open_cork},
    {"link-local", open_link_local},
    {"netlink", open_netlink},
    {"senders", open_senders},
    {"early", open_early},
    {"unaccepted", open_unaccepted},
    {"outside", open_outside},
};

int main(int argc, char **argv)
{
    char has[256] = "";

    workload_init();
    for (int i = 1; i < argc; i++)
        for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
            if (strcmp(kinds[kind].name, argv[i]) != 0) continue;
            if (kinds[kind].open() < 0) continue;
            strcat(has, argv[i]);
            strcat(has, ",");
        }
    say("odd ready has=%s", has);
    for (;;) {
        rest_us(100000);
        if (verify_requested()) say("verify ok");
    }
}
