/*
 * clocks [FILE]: looks at the clocks all the time, which must never go back and never leap, and has timers of every kind that must
 * go on firing; each thread of it makes restartable sequences (rseq(2)) fail or not by the number of the processor that it runs on.
 * With FILE it is a process of its own that leaves its parent (a daemon), and says what it has to say there.
 *
 * Output: "clocks ready"; "verify ok ticks=N..." or "verify BAD ..." about the time since the last one.
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define THREADS  4
#define TICK_NS  20000000L
/* What the two guests' clocks of the day, which both follow the host's, may differ by. */
#define LEAP_NS 30000000000LL

static atomic_long backward, leaps, ticks[4], rounds[THREADS], wrong_processor;

static int64_t now(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void on_timer(int signal)
{
    (void)signal;
    ticks[0]++;
}

static void start_timer(void)
{
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec every = {{0, TICK_NS}, {0, TICK_NS}};
    timer_t timer;

    sigaction(SIGALRM, &action, NULL);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &every, NULL))
        die("timer: %s", strerror(errno));
}

static void *watch_timerfd(void *argument)
{
    clockid_t clock = *(clockid_t *)argument;
    int fd = timerfd_create(clock, TFD_CLOEXEC);
    struct itimerspec every = {{0, TICK_NS}, {0, TICK_NS}};
    uint64_t count;

    if (fd < 0 || timerfd_settime(fd, 0, &every, NULL)) die("timerfd: %s", strerror(errno));
    for (;;)
        if (read(fd, &count, sizeof count) == sizeof count) ticks[clock == CLOCK_MONOTONIC ? 1 : 2]++;
    return NULL;
}

/* Sleeps to a moment that it has reckoned by the clock: one that has gone back would let it sleep for long. */
static void *sleep_until(void *argument)
{
    struct timespec when;

    (void)argument;
    for (;;) {
        int64_t at = now(CLOCK_MONOTONIC) + TICK_NS;

        when = (struct timespec){at / 1000000000, at % 1000000000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR) continue;
        ticks[3]++;
    }
    return NULL;
}

/* Whether the processor that it runs on is none of this machine. A move between the two questions leaves the count another. */
static bool is_on_none(void)
{
    long count = sysconf(_SC_NPROCESSORS_CONF);

    return sched_getcpu() >= count && sysconf(_SC_NPROCESSORS_CONF) == count;
}

static void *watch_clocks(void *argument)
{
    static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW};
    atomic_long *round = argument;
    int64_t last[3], offset = now(CLOCK_REALTIME) - now(CLOCK_MONOTONIC);

    for (int i = 0; i < 3; i++) last[i] = now(clocks[i]);
    for (;; (*round)++) {
        for (int i = 0; i < 3; i++) {
            int64_t time = now(clocks[i]);

            if (time < last[i]) backward++;
            last[i] = time;
        }
        if (llabs(now(CLOCK_REALTIME) - now(CLOCK_MONOTONIC) - offset) > LEAP_NS) leaps++;
        /* By rseq, where the C library has it (glibc 2.35): a word that the kernel keeps up to date. */
        wrong_processor += is_on_none();
        rest_us(5000);
    }
    return NULL;
}

static void start_threads(void)
{
    static clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    pthread_t thread;

    for (int i = 0; i < THREADS; i++) pthread_create(&thread, NULL, watch_clocks, &rounds[i]);
    for (int i = 0; i < 2; i++) pthread_create(&thread, NULL, watch_timerfd, &clocks[i]);
    pthread_create(&thread, NULL, sleep_until, NULL);
}

static void leave(const char *file)
{
    int null = open("/dev/null", O_RDWR), out = open(file, O_WRONLY | O_CREAT | O_APPEND, 0644);

    if (null < 0 || out < 0) die("%s: %s", file, strerror(errno));
    if (fork() > 0) _exit(0);
    setsid();
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    if (fork() > 0) _exit(0);
}

static void verify(void)
{
    long seen[4 + THREADS];
    bool still = false;

    for (int i = 0; i < 4; i++) seen[i] = atomic_exchange(&ticks[i], 0);
    for (int i = 0; i < THREADS; i++) seen[4 + i] = atomic_exchange(&rounds[i], 0);
    for (int i = 0; i < 4 + THREADS; i++) still |= seen[i] == 0;
    say("verify %s ticks=%ld,%ld,%ld,%ld backward=%ld leaps=%ld processor=%ld",
        still || backward || leaps || wrong_processor ? "BAD" : "ok", seen[0], seen[1], seen[2], seen[3],
        (long)backward, (long)leaps, (long)wrong_processor);
}

int main(int argc, char **argv)
{
    if (argc > 1) leave(argv[1]);
    workload_init();
    start_timer();
    start_threads();
    say("clocks ready pid=%d", getpid());
    for (;;) {
        rest_us(20000);
        if (verify_requested()) verify();
    }
}
