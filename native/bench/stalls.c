/*
 * A thread that is busy with the memory of the first process while the container is moved, and measures how
 * long its first access to each page takes afterwards.
 *
 * It goes over all pages in a random order, again and again, and reads and writes a word of each. That the
 * container has been moved it knows from the kernel's boot id, which it looks at whenever a clock has jumped.
 * From then on it goes over all pages once more, in another order, and counts each access by how long it took:
 * the access in which the container stood still was before that. For tests, MWARP_BENCH_BOOT_ID names a
 * file to read in the place of the kernel's.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* No move is as fast; a thread that does not get the processor for as long looks at the boot id in vain. */
#define JUMP_NS       10000000ULL
#define BOOT_ID_BYTES 37
/* The second word of a page is written when the page is filled and never again. */
#define STEADY_WORD 1

static struct {
    pthread_t thread;
    bool started;
    const struct memory *memory;
    char boot[BOOT_ID_BYTES];
    /* All that follows is written by the thread. */
    atomic_bool stop, moved;
    atomic_ulong passes, touched;
    _Atomic uint64_t longest_ns, window_ns;
    atomic_uint counts[STALL_BUCKETS];
} load;

/*
 * Bucket of a time: below 4 ns each has its own, above them four to an octave. Bucket i of these begins at
 * (4 + i % 4) << (i / 4 - 1), and so ends where the next one begins.
 */
static unsigned bucket_of(uint64_t ns)
{
    unsigned octave, bucket;

    if (ns < 4) return (unsigned)ns;
    octave = 63 - (unsigned)__builtin_clzll(ns);
    bucket = (octave - 1) * 4 + ((unsigned)(ns >> (octave - 2)) & 3);
    return bucket < STALL_BUCKETS ? bucket : STALL_BUCKETS - 1;
}

static bool read_boot_id(char id[BOOT_ID_BYTES])
{
    const char *instead = getenv("MWARP_BENCH_BOOT_ID");
    int fd = open(instead ? instead : "/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    bool read_it;

    if (fd < 0) return false;
    read_it = read_whole(fd, id, BOOT_ID_BYTES - 1);
    close(fd);
    id[BOOT_ID_BYTES - 1] = '\0';
    return read_it;
}

static bool is_elsewhere(void)
{
    char now[BOOT_ID_BYTES];

    return read_boot_id(now) && strcmp(now, load.boot);
}

static uint64_t wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void touch(size_t page)
{
    volatile uint64_t *word = (uint64_t *)(load.memory->start + page * PAGE_BYTES) + STEADY_WORD;

    *word = *word;
}

/* All numbers below `pages`, each once, in an order that has nothing to do with theirs; see next_page(). */
struct order {
    uint64_t mask, state, left;
    unsigned shift;
};

static struct order order_of(size_t pages, uint64_t seed)
{
    unsigned bits = pages < 2 ? 1 : 64 - (unsigned)__builtin_clzll(pages - 1);

    return (struct order){
        .mask = (1ULL << bits) - 1, .state = seed, .left = 1ULL << bits, .shift = (bits + 1) / 2};
}

/*
 * A linear congruential generator modulo a power of two: every number once (Knuth, The Art of Computer
 * Programming, volume 2, 3.2.1.2, theorem A). Its low bits are poor, so the high ones are mixed in, which is
 * reversible.
 */
static bool next_page(struct order *order, size_t pages, size_t *page)
{
    while (order->left > 0) {
        order->left--;
        order->state = order->state * 0xd1342543de82ef95ULL + 0x9e3779b97f4a7c15ULL;
        uint64_t number = order->state & order->mask;
        *page = number ^ (number >> order->shift);
        if (*page < pages) return true;
    }
    return false;
}

static bool has_jumped(uint64_t before, uint64_t now)
{
    return now < before || now - before > JUMP_NS;
}

/* True when the container was moved, false when it is told to stop. */
static bool work_until_moved(uint64_t *seed)
{
    size_t pages = load.memory->pages, page;
    uint64_t last = now_ns(), last_wall = wall_ns();

    for (;;) {
        struct order order = order_of(pages, ++*seed);

        while (next_page(&order, pages, &page)) {
            uint64_t now, wall;

            if (load.stop) return false;
            touch(page);
            now = now_ns();
            wall = wall_ns();
            /* The clocks of two VMs may agree by chance across the gap: hardly both of them. */
            if ((has_jumped(last, now) || has_jumped(last_wall, wall)) && is_elsewhere()) return true;
            last = now;
            last_wall = wall;
        }
        load.passes++;
    }
}

static void touch_each_once(uint64_t seed)
{
    size_t pages = load.memory->pages, page;
    struct order order = order_of(pages, seed);
    uint64_t begin = now_ns();

    while (next_page(&order, pages, &page) && !load.stop) {
        uint64_t before = now_ns(), ns;

        touch(page);
        ns = now_ns() - before;
        load.counts[bucket_of(ns)]++;
        if (ns > load.longest_ns) load.longest_ns = ns;
        load.window_ns = before + ns - begin;
        load.touched++;
    }
}

static void *work(void *unused)
{
    uint64_t seed = now_ns();

    (void)unused;
    if (!work_until_moved(&seed)) return NULL;
    load.moved = true;
    touch_each_once(++seed);
    return NULL;
}

void stalls_stop(void)
{
    if (!load.started) return;
    load.stop = true;
    pthread_join(load.thread, NULL);
    load.started = false;
}

bool stalls_start(const struct memory *memory)
{
    stalls_stop();
    load.memory = memory;
    load.stop = load.moved = false;
    load.passes = load.touched = 0;
    load.longest_ns = load.window_ns = 0;
    for (unsigned i = 0; i < STALL_BUCKETS; i++) load.counts[i] = 0;
    if (!read_boot_id(load.boot) || pthread_create(&load.thread, NULL, work, NULL)) return false;
    load.started = true;
    return true;
}

int stalls_say(char *reply, size_t size)
{
    size_t pages = load.memory ? load.memory->pages : 0;
    int length = snprintf(
        reply, size, "stalls moved=%d passes=%lu pages=%lu touched=%lu window=%lu longest=%lu", load.moved,
        load.passes, pages, load.touched, load.window_ns, load.longest_ns);

    for (unsigned i = 0; i < STALL_BUCKETS && (size_t)length < size; i++)
        if (load.counts[i] > 0)
            length += snprintf(reply + length, size - (size_t)length, " %u:%u", i, load.counts[i]);
    if ((size_t)length < size) length += snprintf(reply + length, size - (size_t)length, "\n");
    return length;
}
