/*
 * How fast plain TCP is between two VMs: what a transfer of pages over their network is measured against.
 *
 *   mwarp-guest tcp-receive PORT              says "ready", reads one connection to its end, answers
 *   mwarp-guest tcp-send ADDRESS PORT BYTES   prints "BYTES NANOSECONDS": from the first byte to the answer
 */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES (1UL << 20)
/* A partner that never comes, or hangs, must not keep this one for ever. */
#define LIMIT_SECONDS 120

static char chunk[CHUNK_BYTES];

static int failed(const char *what, int error)
{
    fprintf(stderr, "mwarp-guest tcp: %s: %s\n", what, strerror(-error));
    return 1;
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1, error;

    if (fd < 0) return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0)
        return fd;
    error = -errno;
    close(fd);
    return error;
}

int tcp_receive_main(int argc, char **argv)
{
    int listener = argc == 1 ? listen_on((uint16_t)atoi(argv[0])) : -EINVAL;
    ssize_t got;
    int fd;

    alarm(LIMIT_SECONDS);
    if (listener < 0) return failed("listen", listener);
    printf("ready\n");
    fflush(stdout);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return failed("accept", -errno);
    while ((got = read(fd, chunk, sizeof chunk)) != 0)
        if (got < 0 && errno != EINTR) return failed("read", -errno);
    got = write_all(fd, "", 1);
    return got < 0 ? failed("answer", (int)got) : 0;
}

static int send_all(int fd, uint64_t bytes)
{
    int error = 0;

    /* Pages of zeros would cost the sender's cache less than real ones. */
    for (size_t i = 0; i < sizeof chunk; i++) chunk[i] = (char)(i * 31);
    for (uint64_t left = bytes; left > 0 && error == 0;) {
        size_t size = left < sizeof chunk ? left : sizeof chunk;

        error = write_all(fd, chunk, size);
        left -= size;
    }
    if (error == 0 && shutdown(fd, SHUT_WR) < 0) error = -errno;
    return error == 0 ? read_all(fd, chunk, 1) : error;
}

int tcp_send_main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error;
    int64_t begin;
    uint64_t bytes;

    alarm(LIMIT_SECONDS);
    if (argc != 3 || inet_pton(AF_INET, argv[0], &to.sin_addr) != 1) return failed("arguments", -EINVAL);
    to.sin_port = htons((uint16_t)atoi(argv[1]));
    bytes = strtoull(argv[2], NULL, 10);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) return failed("connect", -errno);
    begin = now_ns();
    error = send_all(fd, bytes);
    if (error < 0) return failed("send", error);
    printf("%llu %lld\n", (unsigned long long)bytes, (long long)(now_ns() - begin));
    return 0;
}
