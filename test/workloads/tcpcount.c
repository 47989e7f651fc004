/*
 * tcpcount PORT: a server that counts, by IPv4 and IPv6. Each line "N" of a connection is answered with "N M", M being how many
 * lines this connection has sent: the client sees at once when a line was lost, came twice, or met another
 * copy of the server.
 *
 * Output: "tcpcount ready port=N", and for each SIGUSR1 "verify ok answers=N connections=N".
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CLIENTS = 32, LINE_BYTES = 64 };

struct client {
    unsigned long lines;
    size_t used;
    char line[LINE_BYTES];
};

static struct pollfd waits[MAX_CLIENTS + 1];
static struct client clients[MAX_CLIENTS + 1];
static nfds_t count;
static unsigned long answers;

static int listen_on(uint16_t port)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1, no = 0;
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)) ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, MAX_CLIENTS))
        die("port %u: %s", port, strerror(errno));
    return fd;
}

static void drop(nfds_t index)
{
    close(waits[index].fd);
    count--;
    waits[index] = waits[count];
    clients[index] = clients[count];
}

/* Answers every whole line that has come; false when the connection is at its end. */
static bool serve(nfds_t index)
{
    struct client *client = &clients[index];
    ssize_t got = read(waits[index].fd, client->line + client->used, LINE_BYTES - client->used);
    if (got <= 0) return got < 0 && (errno == EINTR || errno == EAGAIN);
    client->used += (size_t)got;
    for (char *end; (end = memchr(client->line, '\n', client->used)) != NULL;) {
        char reply[2 * LINE_BYTES];
        client->lines++;
        int length = snprintf(reply, sizeof(reply), "%.*s %lu\n", (int)(end - client->line), client->line,
                              client->lines);
        if (send(waits[index].fd, reply, (size_t)length, MSG_NOSIGNAL) != length) return false;
        answers++;
        client->used -= (size_t)(end + 1 - client->line);
        memmove(client->line, end + 1, client->used);
    }
    return client->used < LINE_BYTES;
}

int main(int argc, char **argv)
{
    if (argc != 2) die("usage: tcpcount PORT");
    uint16_t port = (uint16_t)parse_number("PORT", argv[1], 1, 65535);
    workload_init();
    waits[0] = (struct pollfd){.fd = listen_on(port), .events = POLLIN};
    count = 1;
    say("tcpcount ready port=%u", port);

    for (;;) {
        int ready = poll(waits, count, 1000);
        if (verify_requested())
            say("verify ok answers=%lu connections=%lu", answers, (unsigned long)(count - 1));
        if (ready <= 0) continue;
        for (nfds_t i = count - 1; i > 0; i--)
            if (waits[i].revents && !serve(i)) drop(i);
        if (waits[0].revents && count <= MAX_CLIENTS) {
            int fd = accept4(waits[0].fd, NULL, NULL, SOCK_CLOEXEC);
            if (fd < 0) continue;
            waits[count] = (struct pollfd){.fd = fd, .events = POLLIN};
            clients[count] = (struct client){0};
            count++;
        }
    }
}
