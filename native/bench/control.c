/*
 * The port of the first process. A line is a request to all processes, which work on it at the same time;
 * one line answers it:
 *
 *   verify   verified pages=N wrong=N [first=N]   whether each page holds what it must
 *   touch    touched pages=N ns=N                 one access to each page, and how long that took for all
 *   rate     written pages=N                      pages written since the start
 *   renew    renewed pages=N                      new pages, laid out as at the start, with the same contents
 *   load     loaded pages=N                       a thread is busy with the first process's pages
 *   stalls   stalls moved=0|1 passes=N pages=N touched=N window=NS longest=NS [BUCKET:COUNT...]
 *            what it saw: passes over all pages before the move; pages of the first process, and those
 *            touched since, in how long, the longest access, and how many took how long (stalls.c, bucket_of)
 *   rest     resting                              the thread ends
 *
 * One client at a time: a new connection takes the place of the one before.
 */
#include "bench.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINE_BYTES  64
#define REPLY_BYTES (STALL_BUCKETS * 16 + 256)

struct client {
    int fd;
    size_t used;
    char line[LINE_BYTES];
};

struct crew {
    const struct peer *peers;
    size_t count;
    struct memory *memory;
    uint64_t all_pages;
};

int control_listen(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) ||
        bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4))
        die("port %u: %s", port, strerror(errno));
    return fd;
}

/* Asks all processes at once; sums their answers up. */
static struct answer ask_all(const struct crew *crew, enum request request)
{
    char byte = (char)request;
    struct answer sum;

    for (size_t i = 0; i < crew->count; i++)
        if (!write_whole(crew->peers[i].out, &byte, 1)) die("process %zu has ended", i + 1);
    sum = serve_request(request, crew->memory);
    for (size_t i = 0; i < crew->count; i++) {
        struct answer one;

        if (!read_whole(crew->peers[i].in, &one, sizeof one)) die("process %zu has ended", i + 1);
        if (sum.value == 0) sum.page = one.page;
        sum.value += one.value;
    }
    return sum;
}

static int answer_line(const struct crew *crew, const char *line, char *reply, size_t size)
{
    unsigned long pages = crew->all_pages;

    if (!strcmp(line, "verify")) {
        stalls_stop();
        struct answer found = ask_all(crew, REQUEST_VERIFY);

        if (found.value == 0) return snprintf(reply, size, "verified pages=%lu wrong=0\n", pages);
        return snprintf(reply, size, "verified pages=%lu wrong=%lu first=%lu\n", pages, found.value,
                        found.page);
    }
    if (!strcmp(line, "touch")) {
        uint64_t begin = now_ns();

        ask_all(crew, REQUEST_TOUCH);
        return snprintf(reply, size, "touched pages=%lu ns=%lu\n", pages, now_ns() - begin);
    }
    if (!strcmp(line, "rate"))
        return snprintf(reply, size, "written pages=%lu\n", ask_all(crew, REQUEST_RATE).value);
    if (!strcmp(line, "renew")) {
        stalls_stop();
        ask_all(crew, REQUEST_RENEW);
        return snprintf(reply, size, "renewed pages=%lu\n", pages);
    }
    if (!strcmp(line, "load")) {
        if (!stalls_start(crew->memory)) return snprintf(reply, size, "error no thread or no boot id\n");
        return snprintf(reply, size, "loaded pages=%lu\n", crew->memory->pages);
    }
    if (!strcmp(line, "stalls")) return stalls_say(reply, size);
    if (!strcmp(line, "rest")) {
        stalls_stop();
        return snprintf(reply, size, "resting\n");
    }
    return snprintf(reply, size, "error no such request\n");
}

/* Answers each whole line that has come; false when the connection is at its end. */
static bool serve_client(const struct crew *crew, struct client *client)
{
    ssize_t got = read(client->fd, client->line + client->used, LINE_BYTES - client->used);

    if (got <= 0) return got < 0 && (errno == EINTR || errno == EAGAIN);
    client->used += (size_t)got;
    for (char *end; (end = memchr(client->line, '\n', client->used)) != NULL;) {
        char reply[REPLY_BYTES];
        int length;

        *end = '\0';
        length = answer_line(crew, client->line, reply, sizeof reply);
        if (send(client->fd, reply, (size_t)length, MSG_NOSIGNAL) != length) return false;
        client->used -= (size_t)(end + 1 - client->line);
        memmove(client->line, end + 1, client->used);
    }
    return client->used < LINE_BYTES;
}

static void leave(struct client *client)
{
    if (client->fd >= 0) close(client->fd);
    client->fd = -1;
    client->used = 0;
}

void control_main(int listener, const struct peer *peers, size_t count, struct memory *memory,
                  struct pace *pace, uint64_t all_pages)
{
    struct crew crew = {.peers = peers, .count = count, .memory = memory, .all_pages = all_pages};
    struct client client = {.fd = -1};

    for (;;) {
        /* poll() passes over a descriptor of -1. */
        struct pollfd waits[] = {{.fd = listener, .events = POLLIN}, {.fd = client.fd, .events = POLLIN}};

        if (poll(waits, 2, pace_timeout(pace)) > 0) {
            if (waits[1].revents && !serve_client(&crew, &client)) leave(&client);
            if (waits[0].revents) {
                leave(&client);
                client.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            }
        }
        pace_write(pace, memory);
    }
}
