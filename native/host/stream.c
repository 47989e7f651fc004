/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying between two mappings of this process with non-temporal stores (SSE2, which every x86-64 has): the
 * destination's lines are neither read first nor kept, so the caches stay with those who need them.
 *
 * SAFETY: the files are other processes' memory. Where one was truncated, or a hole cannot be filled, the
 * access raises SIGBUS. The handler jumps back to the copy that this thread is in; a SIGBUS of anything else
 * goes where it would have gone. What a jump leaves half written is a destination page that is nobody's yet.
 */
#define _GNU_SOURCE
#include "copy.h"

#include <emmintrin.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>

/* Of the copy that this thread is in; NULL outside of any. Volatile: a signal handler reads it. */
static _Thread_local sigjmp_buf *volatile landing __attribute__((tls_model("initial-exec")));
static struct sigaction previous;
static bool caught;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (landing != NULL) siglongjmp(*landing, 1);
    /* Not of a copy: the old disposition gets the signal, from the faulting access or as it was sent. */
    sigaction(SIGBUS, &previous, NULL);
    if (info->si_code <= 0) raise(number);
}

static void catch_sigbus(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigemptyset(&action.sa_mask);
    caught = sigaction(SIGBUS, &action, &previous) == 0;
}

/* Whole pages, so all is aligned. A line at a time: the processor sends it off without reading it first. */
static void stream_lines(char *to, const char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) {
        const __m128i *source = (const __m128i *)(from + i);
        __m128i *destination = (__m128i *)(to + i);
        __m128i a = _mm_load_si128(source), b = _mm_load_si128(source + 1);
        __m128i c = _mm_load_si128(source + 2), d = _mm_load_si128(source + 3);

        _mm_stream_si128(destination, a);
        _mm_stream_si128(destination + 1, b);
        _mm_stream_si128(destination + 2, c);
        _mm_stream_si128(destination + 3, d);
    }
    _mm_sfence();
}

int mw_stream(const struct mw_extent *extent)
{
    sigjmp_buf here;
    int rc = 0;

    pthread_once(&once, catch_sigbus);
    if (!caught) return -ENOTSUP;
    if (sigsetjmp(here, 1) == 0) {
        landing = &here;
        __asm__ volatile("" ::: "memory");
        stream_lines((char *)(uintptr_t)extent->destination, (const char *)(uintptr_t)extent->source,
                     extent->bytes);
        __asm__ volatile("" ::: "memory");
    } else {
        rc = -EFAULT;
    }
    landing = NULL;
    return rc;
}
