/*
 * premap [none|cgroupd|full|many]: makes the calls that CRIU makes when it restores two tasks (criu/cr-restore.c, criu/mem.c), the first in a
 * PID namespace of its own and the second forked from it, and tells what became of their memory. Run with the library of
 * native/criu before it. The first task, pid 1, premaps
 *
 *   place 0      8 pages, with contents
 *   place 8   1024 pages, which the second task shares with it (criu/mem.c, check_cow_vmas)
 *   place 1032   3 pages, with contents
 *
 * and the second, pid 7, inherits the 1024 pages and has 512 of its own after them. With `cgroupd` there is a child that lives all
 * the while, as CRIU's own helpers do; with `full` a page of the second's own has been read from the images by then; with `many`
 * there are 200 more tasks without memory that matters, forked before the second. Output, a line for each large mapping:
 *
 *   PID PLACE present=PAGES exclusive=PAGES huge=KIB zero=PAGES contents=ok
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE      4096UL
#define SHARED    1024UL
#define OWN       512UL
#define PRESENT   (1ULL << 63)
#define EXCLUSIVE (1ULL << 56)

static int pagemap, smaps, forked[2];
static const char *mode = "none";

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static long fork_task(pid_t pid, unsigned long flags)
{
    struct clone_args arguments = {
        .flags = flags, .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};

    return syscall(SYS_clone3, &arguments, sizeof arguments);
}

static char *premap(char *at, size_t pages)
{
    char *got = mmap(at, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    if (got != at) die("premap");
    return got;
}

static char *reserve(size_t pages)
{
    char *at = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, 0, 0);

    if (at == MAP_FAILED) die("reserve");
    return at;
}

/* As CRIU maps the place for its last code: from here on the task is what it was. */
static void become(void)
{
    char *place = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mmap(place, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0, 0) != place)
        die("become");
}

static unsigned long huge_kib(const char *at)
{
    char line[256];
    unsigned long start, end, kib = 0, found = 0;
    int inside = 0;
    FILE *file = fdopen(dup(smaps), "r");

    rewind(file);
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, '-') < strchr(line, ' '))
            inside = (uintptr_t)at >= start && (uintptr_t)at < end;
        else if (inside && sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
            found = kib;
    }
    fclose(file);
    return found;
}

static void tell(unsigned long place, const char *at, size_t pages, const char *contents)
{
    size_t present = 0, exclusive = 0, zero = 0;
    unsigned long huge = huge_kib(at);

    for (size_t i = 0; i < pages; i++) {
        uint64_t entry;

        if (pread(pagemap, &entry, 8, (off_t)((uintptr_t)at / PAGE + i) * 8) != 8) die("pagemap");
        present += (entry & PRESENT) != 0;
        exclusive += (entry & (PRESENT | EXCLUSIVE)) == (PRESENT | EXCLUSIVE);
    }
    for (size_t i = 0; i < pages; i++) {
        static const char nothing[PAGE];

        zero += memcmp(at + i * PAGE, nothing, PAGE) == 0;
    }
    printf("%d %lu present=%zu exclusive=%zu huge=%lu zero=%zu contents=%s\n", getpid(), place, present, exclusive, huge,
           zero, contents);
    fflush(stdout);
}

static void open_own(void)
{
    pagemap = open("/proc/thread-self/pagemap", O_RDONLY);
    smaps = open("/proc/thread-self/smaps", O_RDONLY);
    if (pagemap < 0 || smaps < 0) die("/proc/thread-self");
}

static const char *check(const char *at, size_t pages, char byte)
{
    for (size_t i = 0; i < pages * PAGE; i++)
        if (at[i] != byte) return "WRONG";
    return "ok";
}

/* The kernel takes away what lies outside of the area, and so the memory that is left staged (restorer.c, unmap_old_vmas). */
static int second_task(char *inherited)
{
    char *area = reserve(SHARED + OWN), *own, byte = 0;

    open_own();
    if (mremap(inherited, SHARED * PAGE, SHARED * PAGE, MREMAP_FIXED | MREMAP_MAYMOVE, area) != area) die("mremap");
    own = premap(area + SHARED * PAGE, OWN);
    if (strcmp(mode, "full") == 0) own[3 * PAGE] = 3;
    if (write(forked[1], &byte, 1) != 1) die("write");
    become();
    tell(0, area, SHARED, "ok");
    tell(SHARED, own, OWN, strcmp(mode, "full") != 0 || own[3 * PAGE] == 3 ? "ok" : "WRONG");
    return 0;
}

static int first_task(void)
{
    char *area = reserve(8 + SHARED + 3), *head, *shared, *tail, byte;
    const char *contents;
    long child;

    open_own();
    head = premap(area, 8);
    shared = premap(area + 8 * PAGE, SHARED);
    tail = premap(area + (8 + SHARED) * PAGE, 3);
    memset(head, 1, 8 * PAGE);
    memset(tail, 2, 3 * PAGE);
    for (pid_t pid = 100; strcmp(mode, "many") == 0 && pid < 300; pid++) {
        long other = fork_task(pid, 0);

        if (other < 0) die("clone3");
        if (other == 0) _exit(0);
        waitpid((pid_t)other, NULL, 0);
    }
    child = fork_task(7, 0);
    if (child < 0) die("clone3");
    if (child == 0) exit(second_task(shared));
    if (read(forked[0], &byte, 1) != 1) die("read");
    become();
    contents = check(head, 8, 1);
    if (strcmp(contents, "ok") == 0) contents = check(tail, 3, 2);
    waitpid((pid_t)child, NULL, 0);
    tell(8, shared, SHARED, contents);
    return 0;
}

int main(int argc, char **argv)
{
    pid_t helper = 0;
    long child;
    int status;

    if (pipe(forked) != 0) die("pipe");
    if (argc > 1) mode = argv[1];
    if (strcmp(mode, "cgroupd") == 0) {
        helper = fork();
        if (helper == 0) pause();
    }
    child = fork_task(1, CLONE_NEWPID);
    if (child < 0) die("clone3");
    if (child == 0) exit(first_task());
    waitpid((pid_t)child, &status, 0);
    if (helper > 0) {
        kill(helper, SIGKILL);
        waitpid(helper, NULL, 0);
    }
    printf("environment LD_PRELOAD=%s MWARP_STAGE=%s\n", getenv("LD_PRELOAD") ? "set" : "unset",
           getenv("MWARP_STAGE") ? "set" : "unset");
    return status == 0 ? 0 : 1;
}
