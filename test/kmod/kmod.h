/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of mwarp.ko have in common. Each test runs in a process of its own and says nothing unless
 * it fails; main.c prints one line for each, which the host reads from the console.
 */
#ifndef MWARP_TEST_KMOD_H
#define MWARP_TEST_KMOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../native/kmod/mwarp.h"

#define PAGE  4096ul
#define WORDS (PAGE / sizeof(uint64_t))
#define HUGE  (512 * PAGE)

/* Ends the test as failed, with where and why. */
#define CHECK(condition, ...)                                                                                \
    do {                                                                                                     \
        if (!(condition)) fail(__FILE__, __LINE__, #condition, " " __VA_ARGS__);                             \
    } while (0)
/* The call fails with this errno. */
#define REFUSED(call, error)                                                                                 \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        long refused_result = (call);                                                                        \
        int refused_errno = errno;                                                                           \
        CHECK(refused_result == -1 && refused_errno == (error), "%ld, errno %d", refused_result,             \
              refused_errno);                                                                                \
    } while (0)

_Noreturn void fail(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Ends the test as one that cannot be run here. */
_Noreturn void skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Two files that are each mapped here, filled: every word of a page tells file, page and place. */
struct files {
    int device;
    int a;
    int b;
    uint64_t *at_a;
    uint64_t *at_b;
    size_t pages;
};

struct files make_files(size_t pages);
/* At addresses and of a length that huge pages fit, with huge pages wanted for either or not. */
struct files make_huge_files(size_t pages, bool huge_a, bool huge_b);
void fill(uint64_t *page, char file, size_t index);
/* Whether a page is, as a whole, what fill() made of that file's page. */
bool is_page(const uint64_t *page, char file, size_t index);
/* Both files as they were made, except that the pages of a from `a` on and those of b from `b` on are
 * exchanged. */
void check_files(const struct files *files, size_t a, size_t b, size_t pages);
/* What /proc/self/smaps says of the mapping that `at` lies in, kB: "Swap", "ShmemPmdMapped". */
long smaps(const void *at, const char *name);
/* As many pages as will go, in some tries. Returns how many of the whole mapping are in swap then. */
size_t swap_out(uint64_t *at, size_t pages);

struct mwarp_exchange request(const struct files *files, const struct mwarp_extent *extents, uint32_t count,
                              uint8_t *status, uint32_t flags);
/* One extent, which must be exchanged whole. */
void exchange(const struct files *files, size_t a, size_t b, size_t pages);
/* One extent: the ioctl's result. */
long try_exchange(const struct files *files, size_t a, size_t b, size_t pages, uint32_t flags,
                  uint8_t *status);

pid_t start(void (*work)(void *), void *argument);
/* The process ends well, within a minute after the time that races take. */
void finish(pid_t pid);
void write_file(const char *path, const char *text);
long meminfo(const char *name);

struct test {
    const char *name;
    void (*run)(void);
};

extern const struct test basic_tests[], refusal_tests[], held_tests[], huge_tests[], table_tests[],
    race_tests[], kvm_tests[], fault_tests[];
/* Seconds that each of the tests with races takes. */
extern int race_seconds;
int bench(void);

#endif
