/*
 * A thread that is busy with the memory of the first process while the container is moved, and measures how
 * long its first access to each page takes afterwards; and a second one, which only looks at the clock, to
 * know since when the container runs again.
 *
 * The busy one goes over all pages in a random order, again and again, and reads and writes a word of each.
 * That the container has been moved both know from the kernel's boot id, which they look at whenever a clock
 * has jumped. What the access in which the container stood still took since the other thread runs again is
 * the first time that counts. From then on it goes over all other pages once, in another order, and counts
 * each access by how long it took.
 *
 * What the threads need themselves must not come late with the memory that they measure: stacks and variables
 * lie in the data of the program, which is a private mapping of its file and no anonymous memory.
 *
 * For tests, MWARP_BENCH_BOOT_ID names a file to read in the place of the kernel's.
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
#define TICK_NS       1000000L
#define BOOT_ID_BYTES 37
#define STACK_BYTES   (64UL << 10)
/* The second word of a page is written when the page is filled and never again. */
#define STEADY_WORD 1

enum { WORKER, TICKER, THREADS };

/* What begins with something else than zero is in the file. */
static char stacks[THREADS][STACK_BYTES] __attribute__((aligned(PAGE_BYTES))) = {{1}};

static struct {
    char boot[BOOT_ID_BYTES];
    bool started;
    pthread_t threads[THREADS];
    char *start;
    size_t pages;
    /* All that follows is written by the threads, and `stop` to end them. */
    atomic_bool stop, moved;
    /* When the container ran again, by the clock of where it is now; 0: it has not been moved. */
    _Atomic uint64_t resumed_ns;
    atomic_ulong passes, touched;
    _Atomic uint64_t longest_ns, window_ns;
    atomic_uint counts[STALL_BUCKETS];
} load = {.boot = "-"};

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
    volatile uint64_t *word = (uint64_t *)(load.start + page * PAGE_BYTES) + STEADY_WORD;

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

/* The clocks of two VMs may agree by chance across the gap: hardly both of them. */
struct clocks {
    uint64_t monotonic, wall;
};

static struct clocks read_clocks(void)
{
    return (struct clocks){.monotonic = now_ns(), .wall = wall_ns()};
}

static bool has_jumped(uint64_t before, uint64_t now)
{
    return now < before || now - before > JUMP_NS;
}

static bool was_moved(struct clocks before, struct clocks now)
{
    bool jumped = has_jumped(before.monotonic, now.monotonic) || has_jumped(before.wall, now.wall);

    return jumped && is_elsewhere();
}

static void rest_a_tick(void)
{
    nanosleep(&(struct timespec){.tv_nsec = TICK_NS}, NULL);
}

static void *tick(void *unused)
{
    struct clocks last = read_clocks();

    (void)unused;
    while (!load.stop) {
        rest_a_tick();
        struct clocks now = read_clocks();

        if (was_moved(last, now)) {
            load.resumed_ns = now.monotonic;
            break;
        }
        last = now;
    }
    return NULL;
}

/* True when the container was moved during the access to `page`, which ended at `end_ns`; false: to stop. */
static bool work_until_moved(uint64_t *seed, size_t *page, uint64_t *end_ns)
{
    struct clocks last = read_clocks();

    for (;;) {
        struct order order = order_of(load.pages, ++*seed);

        while (next_page(&order, load.pages, page)) {
            if (load.stop) return false;
            touch(*page);
            struct clocks now = read_clocks();

            *end_ns = now.monotonic;
            if (was_moved(last, now)) return true;
            last = now;
        }
        load.passes++;
    }
}

static void note(uint64_t ns, uint64_t end_ns)
{
    load.counts[bucket_of(ns)]++;
    if (ns > load.longest_ns) load.longest_ns = ns;
    load.window_ns = end_ns > load.resumed_ns ? end_ns - load.resumed_ns : 0;
    load.touched++;
}

static void touch_each_once(uint64_t seed, size_t but)
{
    struct order order = order_of(load.pages, seed);
    size_t page;

    while (next_page(&order, load.pages, &page) && !load.stop) {
        uint64_t before, end;

        if (page == but) continue;
        before = now_ns();
        touch(page);
        end = now_ns();
        note(end - before, end);
    }
}

static void *work(void *unused)
{
    uint64_t seed = now_ns(), end_ns;
    size_t page;

    (void)unused;
    if (!work_until_moved(&seed, &page, &end_ns)) return NULL;
    while (load.resumed_ns == 0 && !load.stop) rest_a_tick();
    load.moved = true;
    /* If it ended before the other thread ran, nothing held it up: its page is one like the others. */
    if (end_ns > load.resumed_ns)
        note(end_ns - load.resumed_ns, end_ns);
    else
        page = load.pages;
    touch_each_once(++seed, page);
    return NULL;
}

void stalls_stop(void)
{
    if (!load.started) return;
    load.stop = true;
    for (int i = 0; i < THREADS; i++) pthread_join(load.threads[i], NULL);
    load.started = false;
}

static bool start_thread(int number, void *(*main)(void *))
{
    pthread_attr_t attributes;
    bool started;

    if (pthread_attr_init(&attributes)) return false;
    started = pthread_attr_setstack(&attributes, stacks[number], STACK_BYTES) == 0 &&
              pthread_create(&load.threads[number], &attributes, main, NULL) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}

bool stalls_start(const struct memory *memory)
{
    stalls_stop();
    load.start = memory->start;
    load.pages = memory->pages;
    load.stop = load.moved = false;
    load.passes = load.touched = 0;
    load.resumed_ns = load.longest_ns = load.window_ns = 0;
    for (unsigned i = 0; i < STALL_BUCKETS; i++) load.counts[i] = 0;
    if (!read_boot_id(load.boot) || !start_thread(TICKER, tick)) return false;
    if (!start_thread(WORKER, work)) {
        load.stop = true;
        pthread_join(load.threads[TICKER], NULL);
        return false;
    }
    load.started = true;
    return true;
}

int stalls_say(char *reply, size_t size)
{
    int length = snprintf(
        reply, size, "stalls moved=%d passes=%lu pages=%lu touched=%lu window=%lu longest=%lu", load.moved,
        load.passes, load.pages, load.touched, load.window_ns, load.longest_ns);

    for (unsigned i = 0; i < STALL_BUCKETS && (size_t)length < size; i++)
        if (load.counts[i] > 0)
            length += snprintf(reply + length, size - (size_t)length, " %u:%u", i, load.counts[i]);
    if ((size_t)length < size) length += snprintf(reply + length, size - (size_t)length, "\n");
    return length;
}
