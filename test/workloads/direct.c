/*
 * direct DIRECTORY THREADS: threads that write and read files past the page cache all the time (O_DIRECT), so
 * that the disk reads from, and writes into, this program's pages. Each block read must hold what was written
 * to it last; the place and the number of the write are in every word.
 *
 * Output: "direct ready threads=N at=ADDRESS", and for each SIGUSR1 "verify ok ios=N" after every block of
 * every file has been read once more, or "verify BAD ...".
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_THREADS = 8, BLOCKS = 16, BLOCK_BYTES = 1 << 16, WORDS = BLOCK_BYTES / 8 };

struct worker {
    pthread_t thread;
    pthread_mutex_t turn;
    unsigned number;
    int fd;
    uint64_t *out, *in;
    uint64_t written[BLOCKS], ios;
    char wrong[160];
};

static struct worker workers[MAX_THREADS];

static uint64_t word_of(const struct worker *worker, unsigned block, unsigned index, uint64_t count)
{
    return mix64((((uint64_t)worker->number * BLOCKS + block) * WORDS + index) ^ (count << 32));
}

static void complain(struct worker *worker, const char *what, unsigned block)
{
    if (!worker->wrong[0])
        snprintf(worker->wrong, sizeof worker->wrong, "%s of block %u: %s", what, block, strerror(errno));
}

static void write_block(struct worker *worker, unsigned block)
{
    uint64_t count = worker->written[block] + 1;

    for (unsigned i = 0; i < WORDS; i++) worker->out[i] = word_of(worker, block, i, count);
    if (pwrite(worker->fd, worker->out, BLOCK_BYTES, (off_t)block * BLOCK_BYTES) != BLOCK_BYTES)
        complain(worker, "write", block);
    worker->written[block] = count;
    worker->ios++;
}

static void read_block(struct worker *worker, unsigned block)
{
    memset(worker->in, 0, BLOCK_BYTES);
    if (pread(worker->fd, worker->in, BLOCK_BYTES, (off_t)block * BLOCK_BYTES) != BLOCK_BYTES)
        complain(worker, "read", block);
    for (unsigned i = 0; i < WORDS; i++)
        if (worker->in[i] != word_of(worker, block, i, worker->written[block])) {
            errno = EILSEQ;
            complain(worker, "contents", block);
            break;
        }
    worker->ios++;
}

static void *work(void *argument)
{
    struct worker *worker = argument;

    for (unsigned block = 0;; block = (block + 1) % BLOCKS) {
        pthread_mutex_lock(&worker->turn);
        write_block(worker, block);
        read_block(worker, block);
        pthread_mutex_unlock(&worker->turn);
        rest_us(1000);
    }
    return NULL;
}

static void start(struct worker *worker, const char *directory, unsigned number, char *memory)
{
    char path[256];

    worker->number = number;
    worker->out = (uint64_t *)memory;
    worker->in = (uint64_t *)(memory + BLOCK_BYTES);
    pthread_mutex_init(&worker->turn, NULL);
    snprintf(path, sizeof path, "%s/direct-%u", directory, number);
    worker->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
    if (worker->fd < 0) die("%s: %s", path, strerror(errno));
    for (unsigned block = 0; block < BLOCKS; block++) write_block(worker, block);
    if (pthread_create(&worker->thread, NULL, work, worker)) die("no thread");
}

static void verify(unsigned threads)
{
    uint64_t ios = 0;
    bool right = true;

    for (unsigned i = 0; i < threads; i++) {
        struct worker *worker = &workers[i];

        pthread_mutex_lock(&worker->turn);
        for (unsigned block = 0; block < BLOCKS; block++) read_block(worker, block);
        ios += worker->ios;
        if (worker->wrong[0]) {
            right = false;
            say("verify BAD thread %u: %s", i, worker->wrong);
        }
        pthread_mutex_unlock(&worker->turn);
    }
    if (right) say("verify ok ios=%lu", (unsigned long)ios);
}

int main(int argc, char **argv)
{
    if (argc != 3) die("usage: direct DIRECTORY THREADS");
    unsigned threads = (unsigned)parse_number("THREADS", argv[2], 1, MAX_THREADS);
    workload_init();
    char *memory = map_pages((size_t)threads * 2 * BLOCK_BYTES / PAGE_BYTES, BACKING_SMALL);
    for (unsigned i = 0; i < threads; i++)
        start(&workers[i], argv[1], i, memory + (size_t)i * 2 * BLOCK_BYTES);
    say("direct ready threads=%u at=%p", threads, (void *)memory);
    for (;;) {
        rest_us(100000);
        if (verify_requested()) verify(threads);
    }
}
