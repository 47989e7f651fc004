/*
 * mwarp-bench-memory: what a container of the benchmark runs. One static program without files.
 *
 *   mwarp-bench-memory PORT BYTES PROCESSES thp|scattered SHARE
 *
 * PROCESSES processes hold BYTES of memory together, in pages that each know what must be in them
 * (memory.c), and write SHARE of them anew each second (process.c). The first process answers on the TCP
 * port PORT (control.c). Lines on standard output, once all memory is there: "process N at=ADDRESS pages=N"
 * for each, then "ready".
 */
#ifndef MWARP_BENCH_H
#define MWARP_BENCH_H

#define _GNU_SOURCE

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096UL

/* Memory of one process. */
struct memory {
    char *start;
    size_t pages;
    /* Number of its first page among those of all processes. */
    uint64_t first;
    bool scattered;
    /* Pages written since the start. They are written in the order of their addresses, over and over: what
     * each page must hold follows from this count. */
    uint64_t written;
};

/* What a process is asked, and what it answers. */
enum request { REQUEST_VERIFY = 'v', REQUEST_TOUCH = 't', REQUEST_RATE = 'r', REQUEST_RENEW = 'n' };
struct answer {
    /* Wrong pages, or pages written; depends on the request. */
    uint64_t value;
    /* Number of the first wrong page, when there is one. */
    uint64_t page;
};

/* memory.c */
void memory_map(struct memory *memory);
/* Gives all pages back and takes new ones, laid out as wanted, with the same contents. */
void memory_renew(struct memory *memory);
void memory_write(struct memory *memory, size_t pages);
/* Reads one word of each page. */
void memory_touch(const struct memory *memory);
/* Number of wrong pages; the first of them into `page`. */
uint64_t memory_verify(const struct memory *memory, uint64_t *page);

/* stalls.c: works on the memory while it is moved, and counts how long pages take afterwards. */
#define STALL_BUCKETS 160
/* False when it could not be started; begins anew when it works already. */
bool stalls_start(const struct memory *memory);
/* Whoever lays memory out anew or looks whether it is right calls it before. */
void stalls_stop(void);
/* What it has seen so far, as a line. Answers with its length. */
int stalls_say(char *reply, size_t size);

/* process.c */
struct pace {
    /* Pages per second. */
    double rate;
    /* Pages that should have been written by now and were not. */
    double due;
    uint64_t last_ns;
    int tick_ms;
};
/* Writes what is due. */
void pace_write(struct pace *pace, struct memory *memory);
/* For poll(): until something is due, or for ever. */
int pace_timeout(const struct pace *pace);
struct answer serve_request(enum request request, struct memory *memory);
/* Answers requests on `in` by `out` until the first process has gone. */
_Noreturn void process_main(int in, int out, struct memory *memory, struct pace *pace);

/* control.c */
struct peer {
    int in, out;
};
/* Listens on `port`; the memory of all processes is there already. */
int control_listen(uint16_t port);
_Noreturn void control_main(int listener, const struct peer *peers, size_t count, struct memory *memory,
                            struct pace *pace, uint64_t all_pages);

/* main.c */
uint64_t now_ns(void);
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Like read(2) and write(2), but whole and past interruptions; false at the end or on an error. */
bool read_whole(int fd, void *buffer, size_t bytes);
bool write_whole(int fd, const void *buffer, size_t bytes);

#endif
