/* What the workloads share: requests by signal, one line of output at a time, a pattern that names its own
 * place. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES     4096UL
#define WORDS_PER_PAGE (PAGE_BYTES / sizeof(uint64_t))

/* How the kernel may back a mapping. */
enum backing {
    BACKING_THP,       /* huge pages wanted */
    BACKING_SMALL,     /* 4 KiB pages, touched in ascending order */
    BACKING_SCATTERED, /* 4 KiB pages, touched in random order, so that neighbours in the mapping lie in
                          unrelated frames */
    BACKING_COLLAPSE,  /* 4 KiB pages that khugepaged may put together to huge ones */
};

/*
 * Installs the handlers that the first process of a container needs: SIGUSR1 asks for a verification, SIGTERM
 * and SIGINT end the program. Never fails; exits with a message when the kernel refuses.
 */
void workload_init(void);

/* True once per SIGUSR1 that came since the last call. */
bool verify_requested(void);

/* Prints one line with a single write(2), so that lines of several tasks do not mix. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints a line on stderr and exits with status 2. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Parses a whole decimal number in [low, high]; dies when the text is not one. */
long parse_number(const char *what, const char *text, long low, long high);

/* Parses "thp", "small", "scattered" or "collapsible"; dies otherwise. */
enum backing parse_backing(const char *text);

/* Maps `pages` pages of private anonymous memory and touches each once in the order that `backing` asks for.
 */
void *map_pages(size_t pages, enum backing backing);

/* Takes huge pages apart again without a change to what they hold, so that khugepaged has something to do. */
void split_huge_pages(void *start, size_t pages);

/* A well mixed 64-bit value of its input (the finalizer of splitmix64). */
uint64_t mix64(uint64_t value);

/* Fills one page so that every word depends on the page's address, the word's index and the seed. */
void fill_page(uint64_t *page, uint64_t seed);

/* Index of the first word that fill_page(page, seed) would not have left, or -1 when the page is right. */
int check_page(const uint64_t *page, uint64_t seed);

/* Sleeps; a signal may end it early. */
void rest_us(unsigned microseconds);

/*
 * Sleeps long enough that this task has used at most `percent` of one processor since the last call. Two VMs,
 * all that runs in them and the migration itself share what may be two emulated processors.
 */
void rest_to_share(unsigned percent);
