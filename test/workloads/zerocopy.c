/*
 * zerocopy PORT SIZE_MIB: sends SIZE_MIB of memory to whoever connects, without copying it (MSG_ZEROCOPY):
 * what the other end has not acknowledged are references of the kernel to pages of this program. Word i (32
 * bits) of the memory is i * 0x9e3779b1.
 *
 * Output: "zerocopy ready port=N pages=N at=ADDRESS", "zerocopy sent bytes=N" whenever the kernel takes no
 * more for now, and for each SIGUSR1 "verify ok sent=N" or "verify BAD word N".
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 17, POLL_MS = 200 };

static uint32_t *memory;
static size_t bytes, sent;

static int listen_on(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
        die("port %u: %s", port, strerror(errno));
    return fd;
}

/* Sends as much as the kernel takes now. False when the connection is at its end. */
static bool push(int fd)
{
    size_t before = sent;

    while (sent < bytes) {
        size_t piece = bytes - sent < PIECE_BYTES ? bytes - sent : PIECE_BYTES;
        ssize_t taken =
            send(fd, (const char *)memory + sent, piece, MSG_ZEROCOPY | MSG_DONTWAIT | MSG_NOSIGNAL);
        if (taken < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)) break;
        if (taken < 0) return false;
        sent += (size_t)taken;
    }
    if (sent != before) say("zerocopy sent bytes=%zu", sent);
    return true;
}

/* The kernel's notices that it has let go of pages: not needed, as the memory never changes. */
static void drop_notices(int fd)
{
    char control[256];
    struct msghdr notice = {.msg_control = control, .msg_controllen = sizeof(control)};

    while (recvmsg(fd, &notice, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0) notice.msg_controllen = sizeof(control);
}

static void verify(void)
{
    for (size_t i = 0; i < bytes / sizeof(*memory); i++) {
        if (memory[i] == (uint32_t)i * 0x9e3779b1u) continue;
        say("verify BAD word %zu", i);
        return;
    }
    say("verify ok sent=%zu", sent);
}

int main(int argc, char **argv)
{
    if (argc != 3) die("usage: zerocopy PORT SIZE_MIB");
    uint16_t port = (uint16_t)parse_number("PORT", argv[1], 1, 65535);
    bytes = (size_t)parse_number("SIZE_MIB", argv[2], 1, 1024) << 20;
    workload_init();
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) die("mmap failed");
    for (size_t i = 0; i < bytes / sizeof(*memory); i++) memory[i] = (uint32_t)i * 0x9e3779b1u;
    int listener = listen_on(port), client = -1;
    say("zerocopy ready port=%u pages=%zu at=%p", port, bytes / PAGE_BYTES, (void *)memory);

    for (;;) {
        struct pollfd wait = {.fd = client < 0 ? listener : client, .events = POLLIN};

        if (client >= 0 && sent < bytes) wait.events |= POLLOUT;
        int ready = poll(&wait, 1, POLL_MS);
        if (verify_requested()) verify();
        if (ready <= 0) continue;
        if (client < 0) {
            int yes = 1;
            client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (client >= 0 && setsockopt(client, SOL_SOCKET, SO_ZEROCOPY, &yes, sizeof(yes)))
                die("SO_ZEROCOPY: %s", strerror(errno));
            continue;
        }
        if (wait.revents & POLLERR) drop_notices(client);
        if (wait.revents & POLLOUT && !push(client)) die("the connection was lost: %s", strerror(errno));
        if (wait.revents & (POLLHUP | POLLIN)) {
            char byte;
            if (recv(client, &byte, 1, MSG_DONTWAIT) == 0) {
                close(client);
                client = -1;
                sent = 0;
            }
        }
    }
}
