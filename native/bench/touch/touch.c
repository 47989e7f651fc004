/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mwarp-bench-touch PORT MIB: a program that lives in its memory. It holds MIB MiB of pages that are all different and answers
 * requests over TCP, each of which touches some of them at random places: looks whether the page is the one that belongs there, and
 * counts in it. It listens once every page is written.
 *
 * Numbers are little endian. A request is { token, pages, seed }, 64 bits each: touch that many pages, or look at every byte of all
 * of them for 0. The answer is { token, requests of this connection, touches since the start, pages that were wrong }.
 *
 * Output: "mwarp-bench-touch ready pages=N at=0xADDRESS".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, WORDS = PAGE_BYTES / sizeof(uint64_t), MAX_CLIENTS = 64, MIB = 1024 * 1024 };

/* The first words of a page; the rest follows from its number. */
enum { NUMBER, COUNT, FIRST_FIXED };

struct request {
    uint64_t token, pages, seed;
};

struct answer {
    uint64_t token, requests, touches, wrong;
};

struct client {
    uint64_t requests;
    size_t used;
    struct request request;
};

static struct pollfd waits[MAX_CLIENTS + 1];
static struct client clients[MAX_CLIENTS + 1];
static nfds_t count;
static uint64_t (*memory)[WORDS];
static uint64_t pages, touches;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("mwarp-bench-touch: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static uint64_t parse(const char *text, uint64_t max)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);

    if (errno || *end || end == text || value == 0 || value > max)
        die("not a number from 1 to %llu: %s", (unsigned long long)max, text);
    return value;
}

/* What word `word` of page `page` holds for good; no two pages have one in common. */
static uint64_t fixed(uint64_t page, uint64_t word)
{
    return (page * WORDS + word + 1) * 0x9e3779b97f4a7c15u;
}

static void fill(void)
{
    void *at = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) die("no memory for %llu pages: %s", (unsigned long long)pages, strerror(errno));
    memory = at;
    for (uint64_t page = 0; page < pages; page++) {
        memory[page][NUMBER] = page;
        for (uint64_t word = FIRST_FIXED; word < WORDS; word++) memory[page][word] = fixed(page, word);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Touches `wanted` pages; how many were not what they should be. */
static uint64_t touch(uint64_t wanted, uint64_t seed)
{
    uint64_t state = seed | 1, wrong = 0;

    for (uint64_t i = 0; i < wanted; i++) {
        uint64_t random = next_random(&state), page = (random >> 16) % pages;
        uint64_t word = FIRST_FIXED + random % (WORDS - FIRST_FIXED);
        wrong += memory[page][NUMBER] != page || memory[page][word] != fixed(page, word);
        memory[page][COUNT]++;
    }
    touches += wanted;
    return wrong;
}

/* Looks at every page; a touch that was lost or counted twice makes one more wrong. */
static uint64_t check(void)
{
    uint64_t wrong = 0, counted = 0;

    for (uint64_t page = 0; page < pages; page++) {
        bool right = memory[page][NUMBER] == page;
        for (uint64_t word = FIRST_FIXED; word < WORDS; word++) right &= memory[page][word] == fixed(page, word);
        wrong += !right;
        counted += memory[page][COUNT];
    }
    return wrong + (counted != touches);
}

static int listen_on(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, MAX_CLIENTS))
        die("port %u: %s", port, strerror(errno));
    return fd;
}

static void add(void)
{
    int fd = accept4(waits[0].fd, NULL, NULL, SOCK_CLOEXEC), yes = 1;

    if (fd < 0) return; /* it has gone away again */
    if (count > MAX_CLIENTS) {
        close(fd);
        return;
    }
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes))) die("TCP_NODELAY: %s", strerror(errno));
    clients[count] = (struct client){0};
    waits[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void drop(nfds_t index)
{
    close(waits[index].fd);
    count--;
    waits[index] = waits[count];
    clients[index] = clients[count];
}

/* Takes what has come and answers a request that is whole; false when the connection is at its end. */
static bool serve(nfds_t index)
{
    struct client *client = &clients[index];
    struct request *request = &client->request;
    ssize_t got =
        recv(waits[index].fd, (char *)request + client->used, sizeof(*request) - client->used, MSG_DONTWAIT);

    if (got <= 0) return got < 0 && (errno == EINTR || errno == EAGAIN);
    client->used += (size_t)got;
    if (client->used < sizeof(*request)) return true;
    client->used = 0;
    client->requests++;
    uint64_t wrong = request->pages == 0 ? check() : touch(request->pages, request->seed);
    struct answer answer = {request->token, client->requests, touches, wrong};
    /* Smaller than any socket's buffer: with one request at a time it goes out whole. */
    return send(waits[index].fd, &answer, sizeof(answer), MSG_NOSIGNAL) == (ssize_t)sizeof(answer);
}

int main(int argc, char **argv)
{
    if (argc != 3) die("usage: mwarp-bench-touch PORT MIB");
    uint16_t port = (uint16_t)parse(argv[1], UINT16_MAX);
    pages = parse(argv[2], 1024 * 1024) * (MIB / PAGE_BYTES);
    fill();
    waits[count++] = (struct pollfd){.fd = listen_on(port), .events = POLLIN};
    printf("mwarp-bench-touch ready pages=%llu at=%p\n", (unsigned long long)pages, (void *)memory);
    fflush(stdout);
    for (;;) {
        if (poll(waits, count, -1) < 0) {
            if (errno == EINTR) continue;
            die("poll: %s", strerror(errno));
        }
        for (nfds_t i = count - 1; i > 0; i--)
            if (waits[i].revents && !serve(i)) drop(i);
        if (waits[0].revents) add();
    }
}
