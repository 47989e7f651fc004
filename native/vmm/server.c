/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The preloaded library's thread: a UNIX socket, served one message at a time. It touches nothing of the VMM
 * but the mappings it is asked to replace, takes no lock the VMM knows, and lets no signal of the VMM land on
 * its thread.
 */
#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CLIENTS 8
/* A client that sends half a message may not keep the others waiting longer. */
#define MESSAGE_TIMEOUT_MS 5000

struct client {
    int fd; /* -1: free */
    struct mw_files files;
};

static struct client clients[MAX_CLIENTS];
static int listener = -1;
static pid_t owner;
static char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
/* One message at a time is read here; untouched pages cost nothing. */
static union {
    struct mw_extent extents[MW_MAX_EXTENTS];
    struct mw_region region;
    char path[MW_MAX_PATH + 1];
    uint32_t handle;
    unsigned char bytes[1];
} body;

static int transfer(int fd, void *buffer, size_t bytes, bool sending)
{
    char *at = buffer;

    while (bytes > 0) {
        struct pollfd wait = {.fd = fd, .events = sending ? POLLOUT : POLLIN};
        ssize_t done =
            sending ? send(fd, at, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) : recv(fd, at, bytes, MSG_DONTWAIT);

        if (done > 0) {
            at += done;
            bytes -= (size_t)done;
        } else if (done == 0) {
            return -EPIPE;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (poll(&wait, 1, MESSAGE_TIMEOUT_MS) == 0) return -ETIMEDOUT;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static int reply(struct client *client, const struct mw_header *request, int error, void *data,
                 uint32_t bytes)
{
    struct mw_header header = {
        .magic = MW_MAGIC,
        .version = MW_VERSION,
        .type = request->type,
        .id = request->id,
        .error = error,
        .body_bytes = bytes,
    };
    int rc = transfer(client->fd, &header, sizeof(header), true);

    if (rc == 0 && bytes > 0) rc = transfer(client->fd, data, bytes, true);
    return rc;
}

static bool body_fits(const struct mw_header *request)
{
    switch (request->type) {
    case MW_HELLO:
        return request->body_bytes == 0;
    case MW_OPEN:
        return request->body_bytes >= 1 && request->body_bytes <= MW_MAX_PATH;
    case MW_CLOSE:
        return request->body_bytes == sizeof(body.handle);
    case MW_REGION:
        return request->body_bytes == sizeof(body.region);
    case MW_MAP:
        return request->count <= MW_MAX_EXTENTS &&
               request->body_bytes == request->count * sizeof(struct mw_extent);
    default:
        return false;
    }
}

/* Serves one message. A negative return ends the connection: nothing after a broken message can be trusted.
 */
static int serve(struct client *client)
{
    struct mw_header request;
    int rc = transfer(client->fd, &request, sizeof(request), false);

    if (rc < 0) return rc;
    if (request.magic != MW_MAGIC || request.version != MW_VERSION || !body_fits(&request)) {
        reply(client, &request, -EPROTO, NULL, 0);
        return -EPROTO;
    }
    rc = transfer(client->fd, body.bytes, request.body_bytes, false);
    if (rc < 0) return rc;
    switch (request.type) {
    case MW_HELLO: {
        struct mw_hello hello = {
            .pid = (uint32_t)getpid(),
            .max_extents = MW_MAX_EXTENTS,
            .max_handles = MW_MAX_HANDLES,
            .regions = mw_region_count(),
        };
        return reply(client, &request, 0, &hello, sizeof(hello));
    }
    case MW_OPEN: {
        struct mw_file file = {0};

        body.path[request.body_bytes] = '\0';
        rc = mw_files_open(&client->files, body.path, &file);
        return reply(client, &request, rc, &file, rc == 0 ? sizeof(file) : 0);
    }
    case MW_CLOSE:
        return reply(client, &request, mw_files_close(&client->files, body.handle), NULL, 0);
    case MW_REGION:
        return reply(client, &request, mw_region_add(body.region.hva, body.region.bytes), NULL, 0);
    default: {
        struct mw_map_result result;

        rc = mw_map(&client->files, body.extents, request.count, &result);
        return reply(client, &request, rc, &result, sizeof(result));
    }
    }
}

static void drop(struct client *client)
{
    mw_files_close_all(&client->files);
    close(client->fd);
    client->fd = -1;
}

static void accept_client(void)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0) return;
    for (int i = 0; i < MAX_CLIENTS; i++) {
        if (clients[i].fd >= 0) continue;
        clients[i].fd = fd;
        mw_files_init(&clients[i].files);
        return;
    }
    close(fd);
}

static void *run(void *unused)
{
    (void)unused;
    for (;;) {
        struct pollfd wait[1 + MAX_CLIENTS] = {{.fd = listener, .events = POLLIN}};

        for (int i = 0; i < MAX_CLIENTS; i++) {
            wait[1 + i].fd = clients[i].fd; /* poll ignores -1 */
            wait[1 + i].events = POLLIN;
        }
        if (poll(wait, 1 + MAX_CLIENTS, -1) < 0) continue;
        for (int i = 0; i < MAX_CLIENTS; i++)
            if (wait[1 + i].revents != 0 && serve(&clients[i]) < 0) drop(&clients[i]);
        if (wait[0].revents != 0) accept_client();
    }
    return NULL;
}

/* The VMM's children (network scripts, helpers) must not load this library. Other preloads stay. */
static void leave_environment(void)
{
    const char *preload = getenv("LD_PRELOAD");

    unsetenv("MWARP_VMM_SOCKET");
    if (preload == NULL) return;
    size_t length = strlen(preload), kept = 0;
    char *copy = malloc(length + 1), *rest = malloc(length + 1);

    if (copy != NULL && rest != NULL) {
        char *state = NULL;

        memcpy(copy, preload, length + 1);
        for (char *item = strtok_r(copy, ": ", &state); item != NULL; item = strtok_r(NULL, ": ", &state)) {
            if (strstr(item, "libmwarp-vmm") != NULL) continue;
            if (kept > 0) rest[kept++] = ':';
            memcpy(rest + kept, item, strlen(item));
            kept += strlen(item);
        }
        rest[kept] = '\0';
    }
    if (kept > 0)
        setenv("LD_PRELOAD", rest, 1);
    else
        unsetenv("LD_PRELOAD");
    free(copy);
    free(rest);
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path)) return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    strcpy(socket_path, path);
    owner = getpid();
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) return -errno;
    unlink(path);
    /* bind() applies the umask to the mode of the descriptor: no instant at which others may connect. */
    if (fchmod(listener, 0600) < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(path, 0600) < 0 || listen(listener, MAX_CLIENTS) < 0)
        return -errno;
    return 0;
}

static void remove_socket(void)
{
    /* A forked child that calls exit() must leave its parent's socket alone. */
    if (getpid() == owner) unlink(socket_path);
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("MWARP_VMM_SOCKET");
    sigset_t all, before;
    pthread_t thread;
    int rc;

    if (path == NULL) return;
    for (int i = 0; i < MAX_CLIENTS; i++) clients[i].fd = -1;
    rc = listen_at(path);
    leave_environment();
    if (rc == 0) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        rc = -pthread_create(&thread, NULL, run, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (rc < 0) {
        /* The VM still runs, with the copy back end only. */
        fprintf(stderr, "mwarp: no memory exchange in this process: %s\n", strerror(-rc));
        return;
    }
    pthread_setname_np(thread, "mwarp");
    pthread_detach(thread);
    atexit(remove_socket);
}
