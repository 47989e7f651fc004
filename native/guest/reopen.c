/*
 * Connections that a program has closed before its peers had all: made anew by the kernel's repair mode (as CRIU makes those that have a
 * descriptor), then closed again, so that the kernel goes on to send what is left.
 */
#include "loose.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* enum of net/ipv4/tcp.c; not in every header. */
enum { NO_QUEUE, RECEIVE_QUEUE, SEND_QUEUE };

union address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static socklen_t fill_address(union address *address, uint32_t family, const uint8_t *bytes, uint16_t port)
{
    memset(address, 0, sizeof *address);
    if (family == 4) {
        address->four.sin_family = AF_INET;
        address->four.sin_port = htons(port);
        memcpy(&address->four.sin_addr, bytes, 4);
        return sizeof address->four;
    }
    address->six.sin6_family = AF_INET6;
    address->six.sin6_port = htons(port);
    memcpy(&address->six.sin6_addr, bytes, 16);
    return sizeof address->six;
}

static int set(int fd, int option, const void *value, socklen_t length)
{
    return setsockopt(fd, IPPROTO_TCP, option, value, length) < 0 ? -errno : 0;
}

static int set_int(int fd, int option, int value)
{
    return set(fd, option, &value, sizeof value);
}

static int set_sequence(int fd, int queue, uint32_t sequence)
{
    int error = set_int(fd, TCP_REPAIR_QUEUE, queue);

    return error < 0 ? error : set(fd, TCP_QUEUE_SEQ, &sequence, sizeof sequence);
}

static int connect_ends(int fd, const struct ends *ends)
{
    union address address;
    socklen_t length = fill_address(&address, ends->family, ends->address, ends->port);

    if (bind(fd, &address.any, length) < 0) return -errno;
    length = fill_address(&address, ends->family, ends->peer, ends->peer_port);
    return connect(fd, &address.any, length) < 0 ? -errno : 0;
}

static int set_options(int fd, const struct loose *loose)
{
    struct tcp_repair_opt options[4] = {{.opt_code = TCPOPT_MAXSEG, .opt_val = loose->mss}};
    socklen_t count = 1;

    if (loose->flags & LOOSE_SACK) options[count++].opt_code = TCPOPT_SACK_PERMITTED;
    if (loose->flags & LOOSE_SCALES) {
        options[count].opt_code = TCPOPT_WINDOW;
        options[count++].opt_val = loose->send_scale | (uint32_t)loose->receive_scale << 16;
    }
    if (loose->flags & LOOSE_TIMESTAMPS) options[count++].opt_code = TCPOPT_TIMESTAMP;
    return set(fd, TCP_REPAIR_OPTIONS, options, count * (socklen_t)sizeof *options);
}

static int set_window(int fd, const struct loose *loose)
{
    struct tcp_repair_window window = {
        .snd_wl1 = loose->window_updated,
        .snd_wnd = loose->window,
        .max_window = loose->most_window,
        .rcv_wnd = loose->own_window,
        .rcv_wup = loose->own_window_told,
    };

    return set(fd, TCP_REPAIR_WINDOW, &window, sizeof window);
}

static int send_all(int fd, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t done = send(fd, bytes, length, MSG_NOSIGNAL);

        if (done <= 0) return done < 0 ? -errno : -EIO;
        bytes += done;
        length -= (size_t)done;
    }
    return 0;
}

/* Since Linux 6.7 its last bit says that it counts microseconds. Ours never does, and goes forward rather than back. */
static int set_timestamp(int fd, uint32_t timestamp)
{
    uint32_t even = timestamp + (timestamp & 1);

    return set(fd, TCP_TIMESTAMP, &even, sizeof even);
}

static int repair(int fd, const struct loose *loose, const uint8_t *bytes)
{
    int most = INT_MAX / 2, error = set_int(fd, TCP_REPAIR, 1);

    if (error == 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &most, sizeof most) < 0) error = -errno;
    if (error == 0) error = set_sequence(fd, RECEIVE_QUEUE, loose->from_peer);
    if (error == 0) error = set_sequence(fd, SEND_QUEUE, loose->to_peer);
    if (error == 0) error = connect_ends(fd, &loose->ends);
    if (error == 0) error = set_options(fd, loose);
    if (error == 0 && (loose->flags & LOOSE_TIMESTAMPS)) error = set_timestamp(fd, loose->our_timestamp);
    if (error == 0) error = set_int(fd, TCP_REPAIR_QUEUE, SEND_QUEUE);
    if (error == 0) error = send_all(fd, bytes, loose->outgoing - loose->unsent);
    if (error == 0) error = set_window(fd, loose);
    return error;
}

/* A descriptor of the connection, still in repair mode: it sends nothing. */
static int make(const struct loose *loose, const uint8_t *bytes)
{
    int fd =
        socket(loose->ends.family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = fd < 0 ? -errno : repair(fd, loose, bytes);

    if (error == 0) return fd;
    if (fd >= 0) close(fd);
    return error;
}

/* What was never sent is sent now; the end follows it. Its port is not kept from whoever listens there anew (SO_REUSEADDR). */
static int let_go(int fd, const struct loose *loose, const uint8_t *bytes)
{
    int yes = 1, error = set_int(fd, TCP_REPAIR, 0);

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 && error == 0) error = -errno;
    if (error == 0) error = send_all(fd, bytes + loose->outgoing - loose->unsent, loose->unsent);
    close(fd);
    return error;
}

static size_t own_bytes(const struct loose *loose)
{
    return (size_t)loose->received + loose->outgoing;
}

static bool fits(const struct loose *loose, size_t count, size_t length)
{
    for (size_t i = 0; i < count; i++) {
        if (own_bytes(&loose[i]) > length || loose[i].unsent > loose[i].outgoing) return false;
        length -= own_bytes(&loose[i]);
    }
    return true;
}

/* Of a socket in repair mode nobody hears, also of its end. */
int64_t try_reopen(const struct link_place *place, const struct loose *loose, size_t count,
                   const uint8_t *bytes, size_t length)
{
    int own = fits(loose, count, length) ? enter_network(place->netns) : -EINVAL, error = 0;

    if (own < 0) return own;
    for (size_t i = 0; i < count && error == 0; bytes += own_bytes(&loose[i++])) {
        int fd = loose[i].kind == LOOSE_CLOSED ? make(&loose[i], bytes) : -ENOENT;

        if (fd >= 0) close(fd);
        if (loose[i].kind == LOOSE_CLOSED && fd < 0) error = fd;
    }
    leave_network(own);
    return error;
}

static int allow_descriptors(size_t count)
{
    struct rlimit limit = {.rlim_cur = count + 64, .rlim_max = count + 64}, now;

    if (getrlimit(RLIMIT_NOFILE, &now) < 0) return -errno;
    if (now.rlim_cur >= limit.rlim_cur) return 0;
    if (now.rlim_max > limit.rlim_max) limit.rlim_max = now.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

static int64_t make_all(int *fds, const struct loose *loose, size_t count, const uint8_t *bytes)
{
    int64_t failed = 0;

    for (size_t i = 0; i < count; bytes += own_bytes(&loose[i++])) {
        fds[i] = loose[i].kind == LOOSE_CLOSED ? make(&loose[i], bytes) : -ENOENT;
        if (loose[i].kind == LOOSE_CLOSED && fds[i] < 0) failed++;
    }
    return failed;
}

static int64_t let_all_go(const int *fds, const struct loose *loose, size_t count, const uint8_t *bytes)
{
    int64_t failed = 0;

    for (size_t i = 0; i < count; bytes += own_bytes(&loose[i++])) {
        if (fds[i] >= 0 && let_go(fds[i], &loose[i], bytes) < 0) failed++;
        if (loose[i].kind == LOOSE_OPENING)
            ask_peer(&loose[i].ends, loose[i].to_peer - 1, loose[i].from_peer);
    }
    return failed;
}

/* All are there before anything can come for them; one that cannot be made keeps no other from it. */
int64_t reopen(const struct link_place *place, const char *bridge, const struct loose *loose, size_t count,
               const uint8_t *bytes, size_t length)
{
    int *fds = fits(loose, count, length) ? calloc(count + 1, sizeof *fds) : NULL;
    int own = fds ? enter_network(place->netns) : -EINVAL, error;
    int64_t failed = 0;

    allow_descriptors(count);
    if (own >= 0) {
        failed = make_all(fds, loose, count, bytes);
        leave_network(own);
    }
    error = fence_open(place->veth, bridge);
    if (own >= 0 && (own = enter_network(place->netns)) >= 0) {
        failed += let_all_go(fds, loose, count, bytes);
        leave_network(own);
    }
    free(fds);
    if (error < 0) return error;
    return own < 0 ? own : failed;
}
