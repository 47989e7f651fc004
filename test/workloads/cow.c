/*
 * cow SIZE_MIB CHILDREN: a parent fills its memory, then forks; each child rewrites every third page for
 * itself (a different third, by its number) and leaves the rest shared with the parent, copy on write. Parent
 * and children each run a second thread that counts on its own page.
 *
 * Output: "cow ready tasks=N pages=N at=ADDRESS", and for each SIGUSR1 to the parent "verify ok tasks=N
 * pages=N" when every task found all of its pages right and its thread counting, or "verify BAD ...".
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

enum {
    MAX_CHILDREN = 16,
    SHARED_SEED = 7,
    THREAD_REST_US = 1000,
    TICK_US = 20000,
    ANSWER_MS = 60000,
    MAX_NAMED = 3
};

struct link {
    int ask, answer;
};

static volatile uint64_t *counter;
static uint64_t *memory;
static size_t pages;

static uint64_t seed_of(size_t page, unsigned task)
{
    return task > 0 && page % 3 == task % 3 ? SHARED_SEED + task : SHARED_SEED;
}

static void *count_for_ever(void *unused)
{
    (void)unused;
    for (;;) {
        ++*counter;
        rest_us(THREAD_REST_US);
    }
    return NULL;
}

static void start_thread(void)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, count_for_ever, NULL);
    if (error) die("pthread_create: %s", strerror(error));
}

/* Number of wrong pages of this task; a thread that stands still counts as one. */
static size_t verify(unsigned task)
{
    size_t bad = 0;
    for (size_t i = 0; i < pages; i++) {
        int word = check_page(memory + i * WORDS_PER_PAGE, seed_of(i, task));
        if (word >= 0 && ++bad <= MAX_NAMED) say("verify BAD task %u page %zu word %d", task, i, word);
    }
    uint64_t before = *counter;
    for (int i = 0; i < 200 && *counter == before; i++) rest_us(10000);
    if (*counter == before) {
        bad++;
        say("verify BAD task %u: its thread does not count", task);
    }
    return bad;
}

static _Noreturn void child(unsigned task, struct link link)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    counter = map_pages(1, BACKING_SMALL);
    for (size_t i = 0; i < pages; i++)
        if (seed_of(i, task) != SHARED_SEED) fill_page(memory + i * WORDS_PER_PAGE, seed_of(i, task));
    start_thread();
    for (size_t bad = 0;;) {
        if (write(link.answer, &bad, sizeof(bad)) != sizeof(bad)) _exit(1);
        char request;
        ssize_t got;
        do got = read(link.ask, &request, 1);
        while (got < 0 && errno == EINTR);
        if (got != 1) _exit(1);
        bad = verify(task);
    }
}

/* One answer of a child: its number of wrong pages, or 1 when it does not answer in time. */
static size_t answer_of(struct link link)
{
    struct pollfd wait = {.fd = link.answer, .events = POLLIN};
    int ready;
    do ready = poll(&wait, 1, ANSWER_MS);
    while (ready < 0 && errno == EINTR);
    size_t bad;
    if (ready == 1 && read(link.answer, &bad, sizeof(bad)) == sizeof(bad)) return bad;
    say("verify BAD: a child does not answer");
    return 1;
}

static struct link start_child(unsigned task)
{
    int ask[2], answer[2];
    if (pipe(ask) || pipe(answer)) die("pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0) die("fork: %s", strerror(errno));
    if (pid == 0) {
        close(ask[1]);
        close(answer[0]);
        child(task, (struct link){.ask = ask[0], .answer = answer[1]});
    }
    close(ask[0]);
    close(answer[1]);
    struct link link = {.ask = ask[1], .answer = answer[0]};
    answer_of(link);
    return link;
}

int main(int argc, char **argv)
{
    if (argc != 3) die("usage: cow SIZE_MIB CHILDREN");
    pages = (size_t)parse_number("SIZE_MIB", argv[1], 1, 65536) * (1UL << 20) / PAGE_BYTES;
    unsigned children = (unsigned)parse_number("CHILDREN", argv[2], 1, MAX_CHILDREN);
    workload_init();
    counter = map_pages(1, BACKING_SMALL);
    memory = map_pages(pages, BACKING_SMALL);
    for (size_t i = 0; i < pages; i++) fill_page(memory + i * WORDS_PER_PAGE, SHARED_SEED);

    struct link links[MAX_CHILDREN];
    for (unsigned task = 1; task <= children; task++) links[task - 1] = start_child(task);
    start_thread();
    say("cow ready tasks=%u pages=%zu at=%p", children + 1, pages, (void *)memory);

    for (;; rest_us(TICK_US)) {
        if (!verify_requested()) continue;
        size_t bad = verify(0);
        for (unsigned i = 0; i < children; i++) {
            if (write(links[i].ask, "v", 1) != 1) die("a child is gone");
            bad += answer_of(links[i]);
        }
        if (bad == 0)
            say("verify ok tasks=%u pages=%zu", children + 1, pages);
        else
            say("verify BAD tasks=%u pages=%zu wrong=%zu", children + 1, pages, bad);
    }
}
