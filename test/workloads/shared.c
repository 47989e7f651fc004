/*
 * shared SIZE_MIB: memory that several may have, SIZE_MIB of each kind, in two tasks:
 *
 *   anonymous  a shared mapping of parent and child, of which each has filled a half
 *   sparse     the same, of which only every eighth page was ever touched
 *   memfd      mapped by the parent
 *   unmapped   a memfd that was written to and that nobody maps
 *   sysv       a System V segment, attached by both
 *   posix      a file in /dev/shm, mapped by both
 *   file       a file in /dev/shm that nobody has open
 *   removed    a file in /dev/shm that is open, and has no name any more
 *
 * Each page is filled from its kind and place; what was never touched must read as zero. Output: "shared ready pages=N", and for
 * each SIGUSR1 "verify ok pages=N", once both tasks have looked at all that they can see, or "verify BAD KIND ...". After each
 * look the two write to a page that the other must see: "verify BAD" follows when they do not share any more.
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <unistd.h>

enum { REST_US = 10000, SPARSE_EVERY = 8, WAIT_TURNS = 3000, MAX_NAMED = 5 };
enum kind { ANONYMOUS, SPARSE, MEMFD, UNMAPPED, SYSV, POSIX, PLAIN, REMOVED, KINDS };

static const char *const names[KINDS] = {"anonymous", "sparse", "memfd", "unmapped", "sysv", "posix", "file", "removed"};

/* What the two say to each other, in a page of its own that both map. */
struct talk {
    volatile uint32_t asked, answered, bad;
};

static size_t pages;
static char *maps[KINDS];
static int files[KINDS];
static struct talk *talk;

static bool is_used(enum kind kind, size_t page)
{
    return kind != SPARSE || page % SPARSE_EVERY == 0;
}

static uint64_t seed_of(enum kind kind, size_t page)
{
    return mix64((uint64_t)kind << 32 | page);
}

static void fill(enum kind kind, uint64_t *into, size_t page)
{
    uint64_t seed = seed_of(kind, page);

    for (size_t i = 0; i < WORDS_PER_PAGE; i++) into[i] = mix64(seed + i);
}

static bool is_right(enum kind kind, const uint64_t *at, size_t page)
{
    uint64_t seed = seed_of(kind, page);
    bool used = is_used(kind, page);

    for (size_t i = 0; i < WORDS_PER_PAGE; i++)
        if (at[i] != (used ? mix64(seed + i) : 0)) return false;
    return true;
}

static void *shared_mapping(int fd)
{
    int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    void *at = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (at == MAP_FAILED) die("mmap: %s", strerror(errno));
    return at;
}

static int file_of(enum kind kind)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/dev/shm/%s", names[kind]);
    if (kind == MEMFD || kind == UNMAPPED) fd = memfd_create(names[kind], 0);
    else fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)(pages * PAGE_BYTES)) != 0) die("%s: %s", names[kind], strerror(errno));
    return fd;
}

static void write_file(enum kind kind)
{
    uint64_t page[WORDS_PER_PAGE];

    files[kind] = file_of(kind);
    for (size_t i = 0; i < pages; i++) {
        fill(kind, page, i);
        if (write(files[kind], page, sizeof page) != (ssize_t)sizeof page) die("write: %s", strerror(errno));
    }
}

static void make(void)
{
    for (int kind = 0; kind < KINDS; kind++) files[kind] = -1;
    talk = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (talk == MAP_FAILED) die("mmap: %s", strerror(errno));
    maps[ANONYMOUS] = shared_mapping(-1);
    maps[SPARSE] = shared_mapping(-1);
    maps[MEMFD] = shared_mapping(files[MEMFD] = file_of(MEMFD));
    maps[POSIX] = shared_mapping(files[POSIX] = file_of(POSIX));
    int segment = shmget(IPC_PRIVATE, pages * PAGE_BYTES, IPC_CREAT | 0600);
    maps[SYSV] = segment < 0 ? (void *)-1 : shmat(segment, NULL, 0);
    if (maps[SYSV] == (void *)-1) die("shmat: %s", strerror(errno));
    write_file(UNMAPPED);
    write_file(PLAIN);
    close(files[PLAIN]);
    write_file(REMOVED);
    if (unlink("/dev/shm/removed") != 0) die("unlink: %s", strerror(errno));
}

static void fill_part(size_t part)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t page = part; maps[kind] && page < pages; page += 2)
            if (is_used(kind, page)) fill(kind, (uint64_t *)(maps[kind] + page * PAGE_BYTES), page);
}

static void wrong(enum kind kind, size_t page, size_t *bad)
{
    if (++*bad <= MAX_NAMED) say("verify BAD %s page %zu in pid %d", names[kind], page, getpid());
}

static void look_at_map(enum kind kind, size_t *bad)
{
    for (size_t page = 0; page < pages; page++)
        if (!is_right(kind, (uint64_t *)(maps[kind] + page * PAGE_BYTES), page)) wrong(kind, page, bad);
}

static void look_at_file(enum kind kind, size_t *bad)
{
    uint64_t bytes[WORDS_PER_PAGE];
    int fd = kind == PLAIN ? open("/dev/shm/file", O_RDONLY) : files[kind];

    if (fd < 0) wrong(kind, 0, bad);
    for (size_t page = 0; fd >= 0 && page < pages; page++)
        if (pread(fd, bytes, sizeof bytes, (off_t)(page * PAGE_BYTES)) != (ssize_t)sizeof bytes || !is_right(kind, bytes, page))
            wrong(kind, page, bad);
    if (kind == PLAIN && fd >= 0) close(fd);
}

static size_t look(void)
{
    size_t bad = 0;

    for (int kind = 0; kind < KINDS; kind++) {
        if (maps[kind]) look_at_map(kind, &bad);
        if (kind == PLAIN || files[kind] >= 0) look_at_file(kind, &bad);
    }
    return bad;
}

static _Noreturn void child(void)
{
    /* A name of its own, for who counts the processes of a container by theirs. */
    if (prctl(PR_SET_NAME, "shared-child") != 0) die("PR_SET_NAME");
    fill_part(1);
    talk->answered = 1;
    for (uint32_t done = 1;; rest_us(REST_US)) {
        if (talk->asked <= done) continue;
        talk->bad = (uint32_t)look();
        done = talk->asked;
        talk->answered = done;
    }
}

/* Whether the child has answered in time. */
static bool ask(uint32_t number)
{
    talk->asked = number;
    for (int turn = 0; turn < WAIT_TURNS && talk->answered != number; turn++) rest_us(REST_US);
    return talk->answered == number;
}

int main(int argc, char **argv)
{
    if (argc != 2) die("usage: shared SIZE_MIB");
    pages = (size_t)parse_number("SIZE_MIB", argv[1], 1, 4096) * (1UL << 20) / PAGE_BYTES;
    workload_init();
    make();
    pid_t pid = fork();
    if (pid < 0) die("fork: %s", strerror(errno));
    if (pid == 0) child();
    fill_part(0);
    if (!ask(1)) die("the child does not answer");
    say("shared ready pages=%zu", pages * KINDS);
    for (uint32_t number = 2;; rest_us(REST_US)) {
        if (!verify_requested()) continue;
        size_t bad = look();
        if (!ask(number++)) say("verify BAD the child does not see what its parent writes");
        else if (bad + talk->bad == 0) say("verify ok pages=%zu", pages * KINDS);
    }
}
