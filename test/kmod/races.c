/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exchanges while everybody else is at the same pages. Two things hold whatever happens: each page of the two
 * files is in exactly one place, and no increment that anybody made of a page's counter is lost.
 */
#define _GNU_SOURCE
#include "kmod.h"
#include "races.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RACERS = 16 };

int race_seconds = 4;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

bool race_goes_on(const struct race *race)
{
    return now() < race->end;
}

uint32_t race_random(uint32_t *state, uint32_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state % below;
}

static struct race *make_race(bool contents)
{
    struct race *race = mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(race != MAP_FAILED);
    race->files = make_files(RACE_PAGES);
    for (size_t page = 0; page < RACE_PAGES; page++) {
        race->files.at_a[page * WORDS] = page;
        race->files.at_b[page * WORDS] = RACE_PAGES + page;
        race->files.at_a[page * WORDS + 1] = race->files.at_b[page * WORDS + 1] = 0;
        /* Of the last word, too: it tells a page that was torn. */
        race->files.at_a[page * WORDS + WORDS - 1] = page;
        race->files.at_b[page * WORDS + WORDS - 1] = RACE_PAGES + page;
    }
    race->contents = contents;
    race->end = now() + race_seconds;
    return race;
}

static void check_race(const struct race *race)
{
    static bool seen[2 * RACE_PAGES];
    uint64_t counted = 0;

    for (size_t i = 0; i < 2 * COUNTED_PAGES; i++) {
        const uint64_t *page =
            i < COUNTED_PAGES ? race->files.at_a + i * WORDS : race->files.at_b + (i - COUNTED_PAGES) * WORDS;
        uint64_t id = page[0];

        CHECK(id < 2 * RACE_PAGES && id % RACE_PAGES < COUNTED_PAGES, "place %zu has %lx", i, id);
        CHECK(!seen[id], "page %lu is in two places", id);
        CHECK(page[WORDS - 1] == id, "page %lu is torn: %lu", id, page[WORDS - 1]);
        seen[id] = true;
        counted += page[1];
    }
    CHECK(counted == race->written, "%lu increments of %lu are there", counted, race->written);
    CHECK(race->exchanged > 0, "nothing was exchanged in %lu calls", race->calls);
}

/* Nobody has a reference to a page any more: by then each can change places that is no part of a huge page.
 */
static void check_nothing_held(const struct race *race)
{
    static uint8_t status[COUNTED_PAGES];
    size_t held = COUNTED_PAGES;

    for (int attempt = 0; attempt < 50 && held > 0; attempt++) {
        CHECK(try_exchange(&race->files, 0, 0, COUNTED_PAGES, 0, status) >= 0, "errno %d", errno);
        held = 0;
        for (size_t page = 0; page < COUNTED_PAGES; page++)
            held += status[page] != MWARP_PAGE_EXCHANGED && status[page] != MWARP_PAGE_LARGE;
        usleep(50000);
    }
    CHECK(held == 0, "%zu pages stay held", held);
}

static void end_race(struct race *race, const pid_t *racers, size_t count)
{
    for (size_t i = 0; i < count; i++) finish(racers[i]);
    check_race(race);
    check_nothing_held(race);
    fprintf(stderr, "%lu calls, %lu pages exchanged, %lu left, %lu calls took back, %lu increments\n",
            race->calls, race->exchanged, race->left, race->taken_back, race->written);
}

static void run_race(struct race *race, racer *const *racers)
{
    pid_t pids[MAX_RACERS];
    size_t count = 0;

    for (; racers[count]; count++) pids[count] = start((void (*)(void *))racers[count], race);
    end_race(race, pids, count);
}

static void users(void)
{
    static racer *const racers[] = {race_exchange, race_exchange, race_write, race_write, race_read,
                                    race_fork,     race_lock,     race_remap, NULL};

    run_race(make_race(false), racers);
}

static void pins(void)
{
    static racer *const racers[] = {race_exchange, race_exchange_tables, race_write, race_pipe,
                                    race_peek,     race_uring,           NULL};

    run_race(make_race(true), racers);
}

static void holes(void)
{
    static racer *const racers[] = {race_exchange, race_exchange, race_write, race_punch,
                                    race_truncate, race_page_out, NULL};

    run_race(make_race(true), racers);
}

/* In a control group that memory is taken from all the time: the files are in swap for a good part. */
static void pressure(void)
{
    static racer *const racers[] = {race_exchange, race_exchange_tables, race_write, race_reclaim,
                                    race_compact,  race_collapse,        NULL};
    char pid[16];

    CHECK(mkdir("/sys/fs/cgroup/race", 0755) == 0 || errno == EEXIST);
    snprintf(pid, sizeof pid, "%d", getpid());
    write_file("/sys/fs/cgroup/race/cgroup.procs", pid);
    run_race(make_race(true), racers);
}

/* Whoever exchanges is killed, over and over, wherever it is. */
static void killed(void)
{
    struct race *race = make_race(true);
    pid_t writer = start((void (*)(void *))race_write, race), users[3] = {0};
    uint32_t random = 77;
    unsigned long kills = 0;

    while (race_goes_on(race)) {
        size_t i = race_random(&random, 3);

        if (users[i] > 0) {
            CHECK(kill(users[i], SIGKILL) == 0 && waitpid(users[i], NULL, 0) == users[i]);
            kills++;
        }
        users[i] = start((void (*)(void *))(i ? race_exchange : race_exchange_tables), race);
        usleep(race_random(&random, 100000));
    }
    for (size_t i = 0; i < 3; i++)
        if (users[i] > 0) CHECK(kill(users[i], SIGKILL) == 0 && waitpid(users[i], NULL, 0) == users[i]);
    CHECK(kills > 3, "%lu were killed", kills);
    end_race(race, &writer, 1);
}

const struct test race_tests[] = {
    {"exchanges race with writers, readers, forks, locks and new mappings", users},
    {"exchanges race with pins, pipes and looks from outside", pins},
    {"exchanges race with holes, truncation and swap", holes},
    {"exchanges race with reclaim, compaction and collapse", pressure},
    {"exchanges are killed anywhere", killed},
    {NULL, NULL},
};
