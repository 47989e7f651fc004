/*
 * sockets: holds TCP and UDP sockets of every shape for a client outside (test/support/sockets-client.mjs). It listens by IPv4 at 9000 and
 * up, by IPv6 alone at 9100 and up, and by both at 9200 and up; at each:
 *   +0 control  lines, each answered by one, see obey()
 *   +1 stream   it writes a little all the time, and as much as goes while it holds; when the client has ended, a trailer
 *   +2 heir     after the client's end it goes on to write, little by little, until it is told to finish; then a trailer
 *   +3 mute     it writes HELLO_BYTES, ends, and reads what comes
 *   +4 backlog  nobody is accepted before "accept"; then it reads to the end of each, and writes a trailer
 *   +5 late     like backlog, but the kernel makes a connection only when data has come (TCP_DEFER_ACCEPT)
 *   +6 UDP      each datagram is sent back
 *   +7 parting  it writes PARTING_BYTES and closes at once
 * Told to hold, it reads nothing of streams and datagrams until it is told to release.
 * Every stream's bytes are those of the words 0, 1, 2, ... A trailer is a word of ones, and how many bytes have come and gone.
 *
 * Output: "sockets ready", and for each SIGUSR1 "verify ok|BAD ...".
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum role { CONTROL, STREAM, HEIR, MUTE, BACKLOG, LATE, DATAGRAMS, PARTING, ROLES };
enum { FAMILIES = 3, LISTENERS = FAMILIES * ROLES, MAX_SOCKETS = 96, BUFFER = 65536, HELLO_BYTES = 4000 };
enum { DEFER_SECONDS = 120, TICK_MS = 50, HEIR_BYTES = 12, STREAM_BYTES = 20000, PARTING_BYTES = 150000 };

struct connection {
    enum role role;
    uint64_t in, out;
    bool ended, finishing, lost;
    size_t used;
    char line[64];
};

static struct pollfd waits[MAX_SOCKETS];
static struct connection all[MAX_SOCKETS];
static nfds_t count = LISTENERS;
static unsigned long bad, datagrams, pings, mute_bytes, mute_ended;
static bool accepting, holding;
static int spoken = -1;
static uint64_t said;

static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)(offset / 8 >> offset % 8 * 8);
}

static int open_socket(int family, enum role role)
{
    int type = role == DATAGRAMS ? SOCK_DGRAM : SOCK_STREAM, yes = 1, only = family == 1, wait = DEFER_SECONDS, room = 2 * PARTING_BYTES;
    uint16_t port = htons((uint16_t)(9000 + 100 * family + (int)role));
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = port};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = port};
    int fd = socket(family == 0 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) die("socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (family > 0) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    if (role == PARTING) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (role == LATE) setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &wait, sizeof wait);
    if (family == 0 ? bind(fd, (void *)&four, sizeof four) : bind(fd, (void *)&six, sizeof six))
        die("port %u: %s", ntohs(port), strerror(errno));
    if (role != DATAGRAMS && listen(fd, 16)) die("listen: %s", strerror(errno));
    return fd;
}

static void drop(nfds_t index)
{
    close(waits[index].fd);
    count--;
    waits[index] = waits[count];
    all[index] = all[count];
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void write_stream(nfds_t index, uint64_t limit);

static unsigned long accept_all(nfds_t listener)
{
    unsigned long accepted = 0;
    int fd;

    while (count < MAX_SOCKETS && (fd = accept4(waits[listener].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        waits[count] = (struct pollfd){.fd = fd, .events = POLLIN};
        all[count] = (struct connection){.role = (enum role)(listener % ROLES)};
        if (all[count].role == MUTE) {
            write_stream(count, HELLO_BYTES);
            shutdown(fd, SHUT_WR);
        }
        if (all[count].role == PARTING) {
            write_stream(count, PARTING_BYTES);
            bad += all[count].out != PARTING_BYTES;
            close(fd);
            continue;
        }
        count++;
        accepted++;
    }
    return accepted;
}

/* Writes as much of the stream up to `limit` as the kernel takes. */
static void write_stream(nfds_t index, uint64_t limit)
{
    struct connection *own = &all[index];
    uint8_t bytes[BUFFER];

    while (own->out < limit) {
        size_t length = limit - own->out > sizeof bytes ? sizeof bytes : (size_t)(limit - own->out);
        ssize_t done;

        for (size_t i = 0; i < length; i++) bytes[i] = byte_at(own->out + i);
        done = send(waits[index].fd, bytes, length, MSG_NOSIGNAL);
        if (done <= 0) {
            own->lost = errno != EAGAIN;
            return;
        }
        own->out += (uint64_t)done;
    }
}

/* To the end of the word, and the trailer; true when all of it is out. A trailer that does not fit at once comes the next time. */
static bool write_trailer(nfds_t index)
{
    struct connection *own = &all[index];
    uint64_t trailer[3] = {UINT64_MAX, own->in, (own->out + 7) / 8 * 8};
    int room = 1 << 20;

    setsockopt(waits[index].fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    write_stream(index, trailer[2]);
    return own->out == trailer[2] &&
           send(waits[index].fd, trailer, sizeof trailer, MSG_NOSIGNAL) == (ssize_t)sizeof trailer;
}

static void read_stream(nfds_t index)
{
    struct connection *own = &all[index];
    uint8_t bytes[BUFFER];
    ssize_t got;

    while ((got = read(waits[index].fd, bytes, sizeof bytes)) > 0) {
        for (ssize_t i = 0; i < got; i++) bad += bytes[i] != byte_at(own->in + (uint64_t)i);
        own->in += (uint64_t)got;
        if (own->role == MUTE) mute_bytes += (unsigned long)got;
    }
    if (got == 0) own->ended = true;
    if (got < 0 && errno != EAGAIN) own->lost = true;
}

/* One datagram of its own to whoever has the control connection: the first makes the connected socket. */
static void speak(nfds_t index, const char *port)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;

    if (spoken < 0) {
        getpeername(waits[index].fd, (void *)&peer, &length);
        spoken = socket(peer.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        /* The port lies at the same place in both kinds of addresses. */
        ((struct sockaddr_in *)(void *)&peer)->sin_port = htons((uint16_t)atoi(port));
        if (spoken < 0 || connect(spoken, (void *)&peer, length)) bad++;
    }
    if (send(spoken, &said, sizeof said, MSG_NOSIGNAL) != (ssize_t)sizeof said) bad++;
    said++;
}

static unsigned long heard(void)
{
    uint64_t word;
    unsigned long heard = 0;

    while (recv(spoken, &word, sizeof word, 0) == (ssize_t)sizeof word) heard++;
    return heard;
}

static void echo_datagrams(nfds_t index)
{
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    char data[2048 * 16];
    ssize_t got;

    while ((got = recvfrom(waits[index].fd, data, sizeof data, 0, (void *)&from, &length)) >= 0) {
        datagrams++;
        if (sendto(waits[index].fd, data, (size_t)got, 0, (void *)&from, length) != got) bad++;
        length = sizeof from;
    }
}

static void obey(nfds_t index, const char *line)
{
    unsigned long done = 0;
    char reply[160];

    if (strncmp(line, "accept", 6) == 0) {
        accepting = true;
        for (nfds_t i = 0; i < LISTENERS; i++)
            if (i % ROLES == BACKLOG || i % ROLES == LATE) done += accept_all(i);
    } else if (strncmp(line, "refuse", 6) == 0) {
        accepting = false;
    } else if (strncmp(line, "finish", 6) == 0) {
        for (nfds_t i = LISTENERS; i < count; i++)
            if (all[i].role == HEIR && all[i].ended) done++, all[i].finishing = true;
    } else if (strncmp(line, "hold", 4) == 0 || strncmp(line, "release", 7) == 0) {
        holding = line[0] == 'h';
    } else if (strncmp(line, "speak ", 6) == 0) {
        speak(index, line + 6);
        done = (unsigned long)said;
    } else if (strncmp(line, "heard", 5) == 0) {
        done = heard();
    } else if (strncmp(line, "mute", 4) == 0) {
        done = mute_ended;
    }
    snprintf(reply, sizeof reply, "%s done=%lu bad=%lu datagrams=%lu mute=%lu n=%lu\n", line, done, bad, datagrams, mute_bytes,
             ++pings);
    if (send(waits[index].fd, reply, strlen(reply), MSG_NOSIGNAL) != (ssize_t)strlen(reply)) bad++;
}

static void read_lines(nfds_t index)
{
    struct connection *own = &all[index];
    ssize_t got = read(waits[index].fd, own->line + own->used, sizeof own->line - 1 - own->used);
    char *end;

    if (got == 0) own->ended = true;
    if (got <= 0) return;
    own->used += (size_t)got;
    own->line[own->used] = 0;
    while ((end = strchr(own->line, '\n')) != NULL) {
        *end = 0;
        obey(index, own->line);
        own->used -= (size_t)(end + 1 - own->line);
        memmove(own->line, end + 1, own->used + 1);
    }
}

/* False when the connection is at its end. */
static bool serve(nfds_t index, bool tick)
{
    struct connection *own = &all[index];

    if (own->role == CONTROL) {
        if (waits[index].revents) read_lines(index);
        return !own->ended;
    }
    if (!own->ended && waits[index].revents) read_stream(index);
    if (own->role == STREAM && !own->ended && tick) write_stream(index, holding ? UINT64_MAX - 8 : own->out + STREAM_BYTES);
    if (own->role == HEIR && own->ended && tick && !own->finishing) write_stream(index, own->out + HEIR_BYTES);
    bad += own->lost;
    if (own->lost || !own->ended) return !own->lost;
    if (own->role == MUTE) mute_ended++;
    return own->role != MUTE && !((own->role != HEIR || own->finishing) && write_trailer(index));
}

static short interest(nfds_t i)
{
    enum role role = i < LISTENERS ? (enum role)(i % ROLES) : all[i].role;
    bool waits_for_it = role == BACKLOG || role == LATE;

    if (i < LISTENERS) return (waits_for_it && !accepting) || (role == DATAGRAMS && holding) ? 0 : POLLIN;
    return all[i].ended || (role == STREAM && holding) ? 0 : POLLIN;
}

int main(void)
{
    workload_init();
    for (nfds_t i = 0; i < LISTENERS; i++) waits[i].fd = open_socket((int)(i / ROLES), (enum role)(i % ROLES));
    say("sockets ready");
    for (int64_t next = now_ms();;) {
        int64_t left = next - now_ms();
        bool tick;

        for (nfds_t i = 0; i < count; i++) waits[i].events = interest(i);
        if (poll(waits, count, left > 0 ? (int)left : 0) < 0) continue;
        tick = now_ms() >= next;
        if (tick) next = now_ms() + TICK_MS;
        if (verify_requested())
            say("verify %s connections=%lu datagrams=%lu", bad == 0 ? "ok" : "BAD", (unsigned long)(count - LISTENERS),
                datagrams);
        for (nfds_t i = count - 1; i >= LISTENERS; i--)
            if ((waits[i].revents || tick) && !serve(i, tick)) drop(i);
        for (nfds_t i = 0; i < LISTENERS; i++) {
            if (!(waits[i].revents & POLLIN)) continue;
            if (i % ROLES == DATAGRAMS)
                echo_datagrams(i);
            else
                accept_all(i);
        }
    }
}
