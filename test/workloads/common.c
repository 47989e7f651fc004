#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HUGE_BYTES (2UL << 20)

static volatile sig_atomic_t verify_wanted;

static void on_verify(int signal)
{
    (void)signal;
    verify_wanted = 1;
}

static void on_end(int signal)
{
    (void)signal;
    _exit(0);
}

void workload_init(void)
{
    struct sigaction verify = {.sa_handler = on_verify}, end = {.sa_handler = on_end};
    if (sigaction(SIGUSR1, &verify, NULL) || sigaction(SIGTERM, &end, NULL) || sigaction(SIGINT, &end, NULL))
        die("sigaction: %s", strerror(errno));
}

bool verify_requested(void)
{
    if (!verify_wanted) return false;
    verify_wanted = 0;
    return true;
}

static void print_line(int fd, const char *format, va_list args)
{
    char line[512];
    int length = vsnprintf(line, sizeof(line) - 1, format, args);
    if (length < 0) return;
    if ((size_t)length > sizeof(line) - 2) length = sizeof(line) - 2;
    line[length++] = '\n';
    /* A reader that went away must not end the workload; the tests would see the missing lines. */
    for (ssize_t done = 0; done < length;) {
        ssize_t written = write(fd, line + done, (size_t)(length - done));
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return;
        done += written;
    }
}

void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(STDOUT_FILENO, format, args);
    va_end(args);
}

void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(STDERR_FILENO, format, args);
    va_end(args);
    _exit(2);
}

long parse_number(const char *what, const char *text, long low, long high)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < low || value > high)
        die("%s: wanted a number from %ld to %ld, not '%s'", what, low, high, text);
    return value;
}

enum backing parse_backing(const char *text)
{
    if (!strcmp(text, "thp")) return BACKING_THP;
    if (!strcmp(text, "small")) return BACKING_SMALL;
    if (!strcmp(text, "scattered")) return BACKING_SCATTERED;
    if (!strcmp(text, "collapsible")) return BACKING_COLLAPSE;
    die("backing: wanted thp, small, scattered or collapsible, not '%s'", text);
}

uint64_t mix64(uint64_t value)
{
    value += 0x9e3779b97f4a7c15ULL;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

void *map_pages(size_t pages, enum backing backing)
{
    /* Room for alignment: only a range that starts on 2 MiB gets huge pages throughout. */
    size_t huge = HUGE_BYTES, bytes = pages * PAGE_BYTES;
    char *raw = mmap(NULL, bytes + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) die("mmap of %zu bytes: %s", bytes + huge, strerror(errno));
    char *start = (char *)(((uintptr_t)raw + huge - 1) & ~(huge - 1));
    if (madvise(start, bytes, backing == BACKING_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) && errno != EINVAL)
        die("madvise: %s", strerror(errno));

    if (backing != BACKING_SCATTERED) {
        for (size_t i = 0; i < pages; i++) *(volatile char *)(start + i * PAGE_BYTES) = 0;
        if (backing == BACKING_COLLAPSE && madvise(start, bytes, MADV_HUGEPAGE))
            die("MADV_HUGEPAGE: %s", strerror(errno));
        return start;
    }
    uint32_t *order = malloc(pages * sizeof(*order));
    if (!order) die("malloc: %s", strerror(errno));
    for (size_t i = 0; i < pages; i++) order[i] = (uint32_t)i;
    for (size_t i = pages - 1; i > 0; i--) {
        size_t other = mix64(i) % (i + 1);
        uint32_t kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (size_t i = 0; i < pages; i++) *(volatile char *)(start + order[i] * PAGE_BYTES) = 0;
    free(order);
    return start;
}

void split_huge_pages(void *start, size_t pages)
{
    /* Of a huge page only a part of which is said to be cold the kernel makes small ones
     * (mm/madvise.c, madvise_cold_or_pageout_pte_range). */
    for (size_t i = 0; i < pages; i += HUGE_BYTES / PAGE_BYTES)
        madvise((char *)start + i * PAGE_BYTES, PAGE_BYTES, MADV_COLD);
}

static uint64_t word_at(const uint64_t *page, size_t index, uint64_t seed)
{
    return ((uint64_t)(uintptr_t)page + index) * 0x9e3779b97f4a7c15ULL + seed;
}

void fill_page(uint64_t *page, uint64_t seed)
{
    uint64_t mixed = mix64(seed);
    for (size_t i = 0; i < WORDS_PER_PAGE; i++) page[i] = word_at(page, i, mixed);
}

int check_page(const uint64_t *page, uint64_t seed)
{
    uint64_t mixed = mix64(seed);
    for (size_t i = 0; i < WORDS_PER_PAGE; i++)
        if (page[i] != word_at(page, i, mixed)) return (int)i;
    return -1;
}

void rest_us(unsigned microseconds)
{
    struct timespec wait = {.tv_sec = microseconds / 1000000,
                            .tv_nsec = (long)(microseconds % 1000000) * 1000};
    nanosleep(&wait, NULL);
}

void rest_to_share(unsigned percent)
{
    static uint64_t last;
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    uint64_t now = (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
    /* In a restored task the clock starts anew. */
    uint64_t worked = now > last ? now - last : 0;
    uint64_t pause = worked * (100 - percent) / percent;
    rest_us((unsigned)(pause > 200000 ? 200000 : pause));
    last = now;
}
