/*
 * Resident helper of the agent: what would otherwise start a process, or a slow loop, while a container
 * stands still. Requests on stdin, answers on stdout, one at a time, all little-endian.
 *
 *   request: u32 operation, u32 argument (mostly a pid), u32 count, u32 bytes | `bytes` of body
 *   answer:  i32 0 or negative errno, u32 0, u64 value | for READ, SOCKETS, PRESENT, TRAITS: `value` bytes
 *
 *   POPULATE  body: count x {u64 address, u64 pages}; value: pages touched
 *   READ      the same body; answers of up to one buffer each, the last with value 0
 *   WRITE     the same body, then the bytes of all runs
 *   POKE      body: count x {u64 address, u64 word}
 *   FENCE     argument 1: open, body: interface, NUL, bridge; 0: close, body: interface
 *   ANNOUNCE  body: MAC (6), IPv4 (4), IPv6 (16, with argument 1), namespace path, NUL, interface name
 *   OVERLAY   body: target, NUL, mount options
 *   UNMOUNT   body: target
 *   SOCKETS   answer as for READ, in one piece: text of socket_kinds
 *   UNIX      body: namespace path; answer as for SOCKETS: text of unix_sockets
 *   BIND      body: source, NUL, target
 *   PRESENT   body as for READ; answer as for SOCKETS: {u64 address, u64 pages} of each of present_runs
 *   QUIET     argument 1: the sockets of a control group send nothing, 0: they do again; body: the group's directory
 *   ADMIT     argument: BTF id of bpf_sk_assign_tcp_reqsk; body: count x struct loose, MAC (6), namespace path, NUL,
 *             interface in it, NUL, its other end, NUL, a bridge, NUL, what the connections have received and not sent
 *   REOPEN    the same body; value: connections that could not be made; with argument 1 it is only tried whether they could
 *   DELIVER   the same body with count 0 and records of datagrams.h at its end; value: datagrams
 *   PEEK      argument: pid, count: descriptor; answer as for SOCKETS: records of datagrams.h
 *   WAKE      body: count x struct connection, namespace path; value: connections whose peer was told
 *   TRAITS    body: count x u32 pid; answer as for SOCKETS: text of read_traits
 *   TRAIT     body: such text; value: threads that have got theirs
 *   INCOMING  argument 0: before tar, 1: after it; body: a container's directory, NUL, what layer_incoming takes
 */
#include "guest.h"

#include "datagrams.h"
#include "loose.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#define BUFFER_BYTES   (256U * 1024)
#define MAX_BODY_BYTES (64U * 1024 * 1024)
#define PAGE           4096ULL
/* Shorter runs of present pages are not told of: each is a line in a list and a call. */
#define LEAST_PAGES 16

enum operation {
    POPULATE = 1,
    READ,
    WRITE,
    POKE,
    FENCE,
    ANNOUNCE,
    OVERLAY,
    UNMOUNT,
    SOCKETS,
    BIND,
    WAKE,
    PRESENT,
    TRAITS,
    TRAIT,
    QUIET,
    ADMIT,
    REOPEN,
    DELIVER,
    PEEK,
    UNIX,
    INCOMING
};

struct request {
    uint32_t operation, argument, count, bytes;
};

struct answer {
    int32_t status;
    uint32_t zero;
    uint64_t value;
};

static _Alignas(struct page_run) char buffer[BUFFER_BYTES];

static int reply(int64_t result)
{
    struct answer answer = {.status = result < 0 ? (int32_t)result : 0,
                            .value = result < 0 ? 0 : (uint64_t)result};

    return write_all(STDOUT_FILENO, &answer, sizeof answer);
}

static int open_memory(uint32_t pid, int flags)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/proc/%u/mem", pid);
    fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* A short read of a frozen task's memory means that the run leaves its mappings: an error, never a silent
 * gap. */
static int read_memory(int fd, uint64_t address, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        ssize_t n = pread(fd, buffer + done, bytes - done, (off_t)(address + done));

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? -errno : -EFAULT;
        done += (size_t)n;
    }
    return 0;
}

static int read_runs(uint32_t pid, const struct page_run *runs, size_t count)
{
    int fd = open_memory(pid, O_RDONLY), error = fd < 0 ? fd : 0, broken = 0;
    size_t i;

    for (i = 0; i < count && error == 0 && broken == 0; i++) {
        uint64_t at = runs[i].address, end = at + runs[i].pages * PAGE;

        while (at < end && error == 0 && broken == 0) {
            size_t bytes = end - at > BUFFER_BYTES ? BUFFER_BYTES : (size_t)(end - at);

            error = read_memory(fd, at, bytes);
            if (error < 0) break;
            broken = reply((int64_t)bytes);
            if (broken == 0) broken = write_all(STDOUT_FILENO, buffer, bytes);
            at += bytes;
        }
    }
    if (fd >= 0) close(fd);
    return broken < 0 ? broken : reply(error);
}

/* Takes all the bytes from the agent even after a failure: the next request follows them. */
static int write_runs(uint32_t pid, const struct page_run *runs, size_t count)
{
    int fd = open_memory(pid, O_RDWR), error = fd < 0 ? fd : 0;
    size_t i;

    for (i = 0; i < count; i++) {
        uint64_t at = runs[i].address, end = at + runs[i].pages * PAGE;

        while (at < end) {
            size_t bytes = end - at > BUFFER_BYTES ? BUFFER_BYTES : (size_t)(end - at);
            int broken = read_all(STDIN_FILENO, buffer, bytes);

            if (broken < 0) return broken;
            if (error == 0 && pwrite(fd, buffer, bytes, (off_t)at) != (ssize_t)bytes)
                error = errno ? -errno : -EIO;
            at += bytes;
        }
    }
    if (fd >= 0) close(fd);
    return reply(error);
}

static int poke(uint32_t pid, const uint64_t *pokes, size_t count)
{
    int fd = open_memory(pid, O_RDWR), error = fd < 0 ? fd : 0;
    size_t i;

    for (i = 0; i < count && error == 0; i++)
        if (pwrite(fd, &pokes[2 * i + 1], 8, (off_t)pokes[2 * i]) != 8) error = errno ? -errno : -EIO;
    if (fd >= 0) close(fd);
    return error;
}

/* The part of `body` after its first NUL; the body itself ends in one (see pages_main). */
static const char *second_string(const char *body, size_t bytes)
{
    size_t first = strnlen(body, bytes);

    return first < bytes ? body + first + 1 : body + bytes;
}

/* What lies in the buffer: so many bytes, or a negative errno. */
static int send_text(int64_t bytes)
{
    int error = reply(bytes);

    if (error < 0 || bytes <= 0) return error;
    return write_all(STDOUT_FILENO, buffer, (size_t)bytes);
}

static int send_present(uint32_t pid, const struct page_run *runs, size_t count)
{
    struct page_run *present = (struct page_run *)(void *)buffer;
    int64_t found = present_runs((pid_t)pid, runs, count, LEAST_PAGES, present, sizeof buffer / sizeof *present);
    int error = reply(found < 0 ? found : found * (int64_t)sizeof *present);

    if (error < 0 || found <= 0) return error;
    return write_all(STDOUT_FILENO, buffer, (size_t)found * sizeof *present);
}

static int send_traits(const uint32_t *pids, const struct request *request)
{
    if ((uint64_t)request->count * sizeof *pids != request->bytes) return reply(-EINVAL);
    return send_text(read_traits(pids, request->count, buffer, sizeof buffer));
}

static int run_announce(const struct request *request, const char *body)
{
    bool has_ipv6 = request->argument == 1;
    size_t addresses = has_ipv6 ? 26 : 10;
    const uint8_t *bytes = (const uint8_t *)body;

    if (request->bytes < addresses + 2) return -EINVAL;
    return announce(body + addresses, second_string(body + addresses, request->bytes - addresses), bytes, bytes + 6,
                    has_ipv6 ? bytes + 10 : NULL);
}

static int64_t run_wake(const struct request *request, const char *body)
{
    size_t bytes = request->count * sizeof(struct connection);

    if (request->count > MAX_BODY_BYTES / sizeof(struct connection) || bytes >= request->bytes) return -EINVAL;
    return wake_peers(body + bytes, (const struct connection *)(const void *)body, request->count);
}

static int run_incoming(const struct request *request, char *body)
{
    size_t name = strnlen(body, request->bytes) + 1;

    if (name > request->bytes) return -EINVAL;
    return layer_incoming(body, body + name, request->bytes - name, request->argument == 1);
}

static int send_datagrams(pid_t pid, int fd)
{
    int file = memfd_create("datagrams", MFD_CLOEXEC), error;
    int64_t left = file < 0 ? -errno : peek_datagrams(pid, fd, file);

    error = reply(left);
    if (left > 0) lseek(file, 0, SEEK_SET);
    while (error == 0 && left > 0) {
        ssize_t got = read(file, buffer, left > BUFFER_BYTES ? BUFFER_BYTES : (size_t)left);

        if (got <= 0) return -EIO;
        error = write_all(STDOUT_FILENO, buffer, (size_t)got);
        left -= got;
    }
    if (file >= 0) close(file);
    return error;
}

static int64_t run_loose(const struct request *request, const char *body)
{
    const struct loose *loose = (const struct loose *)(const void *)body;
    size_t at = request->count * sizeof(struct loose) + 6, left;
    const char *strings[4];
    struct link_place place;

    if (request->count > MAX_BODY_BYTES / sizeof(struct loose) || at >= request->bytes) return -EINVAL;
    memcpy(place.mac, body + at - 6, 6);
    for (int i = 0; i < 4; i++) {
        strings[i] = body + at;
        at = (size_t)(second_string(strings[i], request->bytes - at) - body);
    }
    place.netns = strings[0];
    place.device = strings[1];
    place.veth = strings[2];
    left = request->bytes - at;
    if (request->operation == DELIVER) return deliver_datagrams(&place, (const uint8_t *)body + at, left);
    if (request->operation == REOPEN && request->argument == 1)
        return try_reopen(&place, loose, request->count, (const uint8_t *)body + at, left);
    if (request->operation == REOPEN)
        return reopen(&place, strings[3], loose, request->count, (const uint8_t *)body + at, left);
    return admit(&place, request->argument, loose, request->count, (const uint8_t *)body + at, left);
}

static int serve(const struct request *request, char *body)
{
    bool runs = request->operation <= POKE || request->operation == PRESENT;

    if (runs && (uint64_t)request->count * sizeof(struct page_run) != request->bytes) return reply(-EINVAL);
    switch (request->operation) {
    case POPULATE:
        return reply(populate((pid_t)request->argument, (const void *)body, request->count));
    case READ:
        return read_runs(request->argument, (const void *)body, request->count);
    case WRITE:
        return write_runs(request->argument, (const void *)body, request->count);
    case POKE:
        return reply(poke(request->argument, (const void *)body, request->count));
    case FENCE:
        return reply(request->argument ? fence_open(body, second_string(body, request->bytes))
                                       : fence_close(body));
    case ANNOUNCE:
        return reply(run_announce(request, body));
    case OVERLAY:
        return reply(mount("overlay", body, "overlay", 0, second_string(body, request->bytes)) < 0 ? -errno
                                                                                                   : 0);
    case BIND:
        return reply(mount(body, second_string(body, request->bytes), NULL, MS_BIND, NULL) < 0 ? -errno : 0);
    case PRESENT:
        return send_present(request->argument, (const void *)body, request->count);
    case WAKE:
        return reply(run_wake(request, body));
    case TRAITS:
        return send_traits((const void *)body, request);
    case TRAIT:
        return reply(set_traits(body));
    case QUIET:
        return reply(quiet(body, request->argument != 0));
    case INCOMING:
        return reply(run_incoming(request, body));
    case ADMIT:
    case REOPEN:
    case DELIVER:
        return reply(run_loose(request, body));
    case PEEK:
        return send_datagrams((pid_t)request->argument, (int)request->count);
    case UNMOUNT:
        return reply(umount2(body, MNT_DETACH) < 0 ? -errno : 0);
    case SOCKETS:
        return send_text(socket_kinds((pid_t)request->argument, buffer, sizeof buffer));
    case UNIX:
        return send_text(unix_sockets(body, buffer, sizeof buffer));
    default:
        return reply(-ENOSYS);
    }
}

int pages_main(void)
{
    struct request request;

    for (;;) {
        char *body;
        int error = read_all(STDIN_FILENO, &request, sizeof request);

        if (error == -EPIPE) return 0;
        if (error < 0 || request.bytes > MAX_BODY_BYTES) return 1;
        body = calloc(1, (size_t)request.bytes + 2);
        if (!body) return 1;
        error = read_all(STDIN_FILENO, body, request.bytes);
        if (error == 0) error = serve(&request, body);
        free(body);
        if (error < 0) return 1;
    }
}
