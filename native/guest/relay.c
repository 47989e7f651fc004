/*
 * Carries bytes between the agent (stdin, stdout) and its virtio-serial port. The port hands out 4 KiB per
 * read and blocks a writer for as long as no host is connected: both are for poll() here and not for Node's
 * few I/O threads. While no host is connected, what the agent sends is dropped: nobody of an earlier
 * connection waits for it.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES (256 * 1024)
/* How often a port without a host is looked at again. */
#define HOST_POLL_MS 50

struct pipe_buffer {
    size_t start, end;
    char bytes[BUFFER_BYTES];
};

static struct pipe_buffer inward, outward;

static size_t room(struct pipe_buffer *buffer)
{
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
    if (buffer->end == BUFFER_BYTES && buffer->start > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->start, buffer->end - buffer->start);
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    return BUFFER_BYTES - buffer->end;
}

static bool passing(int error)
{
    return error == EAGAIN || error == EINTR;
}

/* Reads until nothing is left or the buffer is full; 0 at the end of the stream. */
static int fill(int fd, struct pipe_buffer *buffer)
{
    size_t space;

    while ((space = room(buffer)) > 0) {
        ssize_t n = read(fd, buffer->bytes + buffer->end, space);

        if (n < 0) return passing(errno) ? 1 : -errno;
        if (n == 0) return 0;
        buffer->end += (size_t)n;
    }
    return 1;
}

static int flush(int fd, struct pipe_buffer *buffer)
{
    while (buffer->start < buffer->end) {
        ssize_t n = write(fd, buffer->bytes + buffer->start, buffer->end - buffer->start);

        if (n < 0) return passing(errno) ? 0 : -errno;
        buffer->start += (size_t)n;
    }
    return 0;
}

static bool host_connected(int port)
{
    struct pollfd look = {.fd = port, .events = POLLIN};

    return poll(&look, 1, 0) <= 0 || !(look.revents & POLLHUP);
}

static int carry(int port)
{
    for (;;) {
        bool connected = host_connected(port);
        struct pollfd polls[3];
        int error = 0;

        if (!connected) outward.start = outward.end = 0;
        polls[0] = (struct pollfd){.fd = connected ? port : -1};
        if (room(&inward) > 0) polls[0].events |= POLLIN;
        if (outward.start < outward.end) polls[0].events |= POLLOUT;
        polls[1] = (struct pollfd){.fd = room(&outward) > 0 ? STDIN_FILENO : -1, .events = POLLIN};
        polls[2] = (struct pollfd){.fd = inward.start < inward.end ? STDOUT_FILENO : -1, .events = POLLOUT};
        if (poll(polls, 3, connected ? -1 : HOST_POLL_MS) < 0 && errno != EINTR) return -errno;

        if (polls[1].revents && fill(STDIN_FILENO, &outward) <= 0) return 0;
        if (connected && room(&inward) > 0) error = fill(port, &inward);
        if (connected && error >= 0) error = flush(port, &outward);
        if (error < 0) return error;
        if (flush(STDOUT_FILENO, &inward) < 0) return 0;
    }
}

int relay_main(int argc, char **argv)
{
    int port;

    if (argc != 1) return 2;
    port = open(argv[0], O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (port < 0) return 1;
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    fcntl(STDOUT_FILENO, F_SETFL, fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK);
    return carry(port) < 0 ? 1 : 0;
}
