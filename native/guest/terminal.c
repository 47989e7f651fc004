/* The sockets of a container's terminal, and what its shim does for whoever is attached; see terminal.h. */
#include "guest.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int listen_at(const char *directory, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, error;

    if ((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", directory, name) >=
        sizeof address.sun_path)
        return -ENAMETOOLONG;
    unlink(address.sun_path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && chmod(address.sun_path, 0600) == 0 &&
        listen(fd, MOST_CLIENTS) == 0)
        return fd;
    error = -errno;
    close(fd);
    return error;
}

int terminal_listen(struct terminal *terminal, const char *container, const char *job)
{
    memset(terminal, 0, sizeof *terminal);
    terminal->container = container;
    terminal->runc = terminal->master = terminal->slave = -1;
    for (size_t i = 0; i < MOST_CLIENTS; i++) terminal->clients[i].fd = -1;
    terminal->console = listen_at(job, "console");
    if (terminal->console < 0) return terminal->console;
    terminal->server = listen_at(container, "terminal");
    return terminal->server < 0 ? terminal->server : 0;
}

static uint32_t length_of(const struct terminal_client *client)
{
    const unsigned char *at = client->frame + 1;

    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static bool is_whole(const struct terminal_client *client)
{
    return client->used >= HEADER_BYTES && client->used >= HEADER_BYTES + length_of(client);
}

/* What is typed waits at its sender while there is no room for it, or nobody to take it to. */
static bool must_wait(const struct terminal *terminal, const struct terminal_client *client)
{
    if (!is_whole(client) || client->frame[0] != 'i') return false;
    return terminal->held || terminal->master < 0 || terminal->pending_bytes > 0;
}

void terminal_wait(const struct terminal *terminal, struct pollfd *polls)
{
    polls[0] = (struct pollfd){.fd = terminal->runc < 0 ? terminal->console : -1, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = terminal->runc, .events = POLLIN};
    polls[2] = (struct pollfd){.fd = terminal->server, .events = POLLIN};
    polls[3] = (struct pollfd){.fd = -1, .events = POLLOUT};
    if (terminal->pending_bytes > 0 && !terminal->held) polls[3].fd = terminal->master;
    for (size_t i = 0; i < MOST_CLIENTS; i++) {
        const struct terminal_client *client = &terminal->clients[i];

        polls[4 + i] = (struct pollfd){.fd = must_wait(terminal, client) ? -1 : client->fd, .events = POLLIN};
    }
}

/* Runc sends one message with the master; its bytes are a name that nobody needs. */
static void take_master(struct terminal *terminal)
{
    char name[256], control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {name, sizeof name};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header;

    if (recvmsg(terminal->runc, &message, MSG_CMSG_CLOEXEC) < 0) {
        if (errno == EAGAIN || errno == EINTR) return;
        message.msg_controllen = 0;
    }
    header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS && terminal->master < 0) {
        memcpy(&terminal->master, CMSG_DATA(header), sizeof terminal->master);
        fcntl(terminal->master, F_SETFL, O_RDWR | O_NONBLOCK);
        terminal->slave = ioctl(terminal->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    }
    close(terminal->runc);
    terminal->runc = -1;
    if (terminal->master < 0) return;
    close(terminal->console);
    terminal->console = -1;
}

static void let_in(struct terminal *terminal)
{
    int fd = accept4(terminal->server, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) return;
    for (size_t i = 0; i < MOST_CLIENTS; i++) {
        struct terminal_client *client = &terminal->clients[i];

        if (client->fd >= 0) continue;
        client->fd = fd;
        client->used = 0;
        return;
    }
    close(fd);
}

static void leave(struct terminal_client *client)
{
    close(client->fd);
    client->fd = -1;
    client->used = 0;
}

/* One who does not read what is said to it is not waited for. */
static void answer(struct terminal_client *client, char kind, uint32_t value)
{
    unsigned char bytes[HEADER_BYTES + sizeof value] = {(unsigned char)kind, sizeof value};

    for (size_t i = 0; i < sizeof value; i++) bytes[HEADER_BYTES + i] = (unsigned char)(value >> (8 * i));
    if (send(client->fd, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof bytes) leave(client);
}

static int take_unread(struct terminal *terminal)
{
    char path[PATH_MAX];
    int error;

    if (terminal->held) return 0;
    if (terminal->slave < 0) return -ENXIO;
    snprintf(path, sizeof path, "%s/input", terminal->container);
    error = unread_take(terminal->slave, path, terminal->pending, terminal->pending_bytes);
    if (error < 0) return error;
    terminal->held = true;
    terminal->pending_bytes = 0;
    return 0;
}

static int give_unread(struct terminal *terminal)
{
    char path[PATH_MAX];
    int error;

    if (terminal->slave < 0) return -ENXIO;
    snprintf(path, sizeof path, "%s/input", terminal->container);
    error = unread_give(terminal->master, terminal->slave, path, terminal->pending, sizeof terminal->pending,
                        &terminal->pending_bytes);
    terminal->held = false;
    return error;
}

static void resize(const struct terminal *terminal, const unsigned char *at)
{
    struct winsize size = {.ws_row = (unsigned short)(at[0] | at[1] << 8),
                           .ws_col = (unsigned short)(at[2] | at[3] << 8)};

    if (terminal->master < 0) return;
    /* A terminal that is gone has no size. */
    (void)ioctl(terminal->master, TIOCSWINSZ, &size);
}

static void obey(struct terminal *terminal, struct terminal_client *client, void (*drain)(void *),
                 void *drains)
{
    const unsigned char *bytes = client->frame + HEADER_BYTES;
    uint32_t length = length_of(client);

    switch (client->frame[0]) {
    case 'i':
        memcpy(terminal->pending + terminal->pending_bytes, bytes, length);
        terminal->pending_bytes += length;
        answer(client, 'a', length);
        break;
    case 'w':
        if (length == 4) resize(terminal, bytes);
        break;
    case 't':
        answer(client, 't', (uint32_t)take_unread(terminal));
        break;
    case 'g':
        drain(drains);
        answer(client, 'g', (uint32_t)give_unread(terminal));
        break;
    default:
        leave(client);
    }
    client->used = 0;
}

/* No more is read than the frame that is begun needs: what follows waits in the socket. */
static void hear(struct terminal_client *client)
{
    size_t wanted = HEADER_BYTES;
    ssize_t n;

    if (client->used >= HEADER_BYTES) wanted += length_of(client);
    if (wanted > sizeof client->frame) {
        leave(client);
        return;
    }
    n = recv(client->fd, client->frame + client->used, wanted - client->used, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0)
        leave(client);
    else
        client->used += (size_t)n;
}

/* The rest waits until the container has read some. */
static void deliver(struct terminal *terminal)
{
    ssize_t n = write(terminal->master, terminal->pending, terminal->pending_bytes);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    /* A terminal that is gone reads nothing any more. */
    if (n < 0) n = (ssize_t)terminal->pending_bytes;
    terminal->pending_bytes -= (size_t)n;
    memmove(terminal->pending, terminal->pending + n, terminal->pending_bytes);
}

void terminal_serve(struct terminal *terminal, const struct pollfd *polls, void (*drain)(void *),
                    void *drains)
{
    if (polls[0].revents)
        terminal->runc = accept4(terminal->console, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (polls[1].revents) take_master(terminal);
    if (polls[2].revents) let_in(terminal);
    if (polls[3].revents) deliver(terminal);
    for (size_t i = 0; i < MOST_CLIENTS; i++) {
        struct terminal_client *client = &terminal->clients[i];

        if (client->fd < 0) continue;
        if (polls[4 + i].fd == client->fd && polls[4 + i].revents && !is_whole(client)) hear(client);
        if (is_whole(client) && !must_wait(terminal, client)) obey(terminal, client, drain, drains);
    }
}

bool terminal_is_watched(const struct terminal *terminal)
{
    for (size_t i = 0; i < MOST_CLIENTS; i++)
        if (terminal->clients[i].fd >= 0) return true;
    return false;
}

void terminal_end(struct terminal *terminal)
{
    if (terminal->slave >= 0) close(terminal->slave);
    terminal->slave = -1;
}
