/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an exchange costs against copying the same bytes and against mapping them anew, in one run: one line
 * of JSON for each layout. Times are the least of some rounds; "touch" is what the first access to every page
 * costs afterwards.
 */
#define _GNU_SOURCE
#include "kmod.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGES = 16384, ROUNDS = 5, HUGE_PAGES = 512 };

static volatile uint64_t sum;

static double micros(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec * 1e-3;
}

static double touch(const struct files *files)
{
    double begin = micros();

    for (size_t page = 0; page < PAGES; page++) sum += files->at_a[page * WORDS] + files->at_b[page * WORDS];
    return micros() - begin;
}

static double least(double a, double b)
{
    return a == 0 || b < a ? b : a;
}

/* Runs of `run` pages, those of b in another order. */
static struct mwarp_extent *make_extents(size_t run, size_t count)
{
    struct mwarp_extent *extents = calloc(count, sizeof *extents);
    uint32_t random = 12345;

    for (size_t i = 0; i < count; i++)
        extents[i] = (struct mwarp_extent){.a = i * run, .b = i * run, .pages = run};
    for (size_t i = count - 1; i > 0; i--) {
        random = random * 1103515245 + 12345;
        size_t j = (random >> 8) % (i + 1);
        uint64_t kept = extents[i].b;

        extents[i].b = extents[j].b;
        extents[j].b = kept;
    }
    return extents;
}

/* What the preloaded library does: each side's run is mapped from the other's file. */
static double remap(const struct files *files, const struct mwarp_extent *extents, size_t count)
{
    double begin = micros();

    for (size_t i = 0; i < count; i++) {
        const struct mwarp_extent *x = &extents[i];
        char *a = (char *)files->at_a + x->a * PAGE, *b = (char *)files->at_b + x->b * PAGE;

        CHECK(mmap(a, x->pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, files->b,
                   (off_t)(x->b * PAGE)) == a);
        CHECK(mmap(b, x->pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, files->a,
                   (off_t)(x->a * PAGE)) == b);
    }
    return micros() - begin;
}

static double copy(const struct files *files, const struct mwarp_extent *extents, size_t count)
{
    double begin = micros();

    for (size_t i = 0; i < count; i++)
        memcpy(files->at_b + extents[i].b * WORDS, files->at_a + extents[i].a * WORDS,
               extents[i].pages * PAGE);
    return micros() - begin;
}

static void measure(const char *name, size_t run, bool huge)
{
    struct files files = make_huge_files(PAGES, huge, huge);
    size_t count = PAGES / run;
    struct mwarp_extent *extents = make_extents(run, count);
    uint8_t *status = calloc(1, PAGES);
    struct mwarp_exchange call = request(&files, extents, (uint32_t)count, status, 0);
    double exchanged = 0, touched = 0, copied = 0, remapped = 0, touched_again = 0;
    long done = 0;

    for (int round = 0; round < ROUNDS; round++) {
        double begin = micros();

        done = ioctl(files.device, MWARP_IOC_EXCHANGE, &call);
        exchanged = least(exchanged, micros() - begin);
        touched = least(touched, touch(&files));
        copied = least(copied, copy(&files, extents, count));
    }
    remapped = remap(&files, extents, count);
    touched_again = touch(&files);
    printf("bench {\"layout\": \"%s\", \"pages\": %d, \"exchanged\": %ld, \"exchange_us_per_page\": %.3f, "
           "\"touch_us_per_page\": %.3f, "
           "\"copy_us_per_page\": %.3f, \"remap_us_per_page\": %.3f, \"remap_touch_us_per_page\": %.3f, "
           "\"exchange_to_copy\": %.3f}\n",
           name, PAGES, done, exchanged / PAGES, touched / PAGES, copied / PAGES, remapped / PAGES,
           touched_again / PAGES, exchanged / copied);
    fflush(stdout);
    munmap(files.at_a, PAGES * PAGE);
    munmap(files.at_b, PAGES * PAGE);
    close(files.device);
    close(files.a);
    close(files.b);
    free(status);
    free(extents);
}

int bench(void)
{
    write_file("/proc/sys/vm/max_map_count", "200000");
    measure("scattered pages", 1, false);
    measure("runs of 16", 16, false);
    measure("runs of 512", HUGE_PAGES, false);
    measure("huge pages", HUGE_PAGES, true);
    return 0;
}
