/* One process: writes at its rate and answers requests, one after the other, in a single thread. */
#include "bench.h"

#include <poll.h>
#include <unistd.h>

/*
 * The most time that is made up for. A process that was frozen does not write all at once what it would have
 * written meanwhile, and one that was moved reads the clock of another VM, which may have jumped either way.
 */
#define MOST_NS 250000000ULL

void pace_write(struct pace *pace, struct memory *memory)
{
    uint64_t now = now_ns(), gone = now > pace->last_ns ? now - pace->last_ns : 0;
    size_t pages;

    if (pace->rate <= 0) return;
    pace->last_ns = now;
    pace->due += pace->rate * (double)(gone > MOST_NS ? MOST_NS : gone) / 1e9;
    pages = (size_t)pace->due;
    pace->due -= (double)pages;
    memory_write(memory, pages);
}

int pace_timeout(const struct pace *pace)
{
    return pace->rate > 0 ? pace->tick_ms : -1;
}

struct answer serve_request(enum request request, struct memory *memory)
{
    struct answer answer = {0};

    switch (request) {
    case REQUEST_VERIFY:
        answer.value = memory_verify(memory, &answer.page);
        break;
    case REQUEST_TOUCH:
        memory_touch(memory);
        break;
    case REQUEST_RATE:
        answer.value = memory->written;
        break;
    case REQUEST_RENEW:
        memory_renew(memory);
        break;
    }
    return answer;
}

void process_main(int in, int out, struct memory *memory, struct pace *pace)
{
    struct pollfd wait = {.fd = in, .events = POLLIN};

    for (;;) {
        struct answer answer;
        char request;

        if (poll(&wait, 1, pace_timeout(pace)) > 0) {
            if (!read_whole(in, &request, 1)) _exit(0);
            answer = serve_request((enum request)request, memory);
            if (!write_whole(out, &answer, sizeof answer)) _exit(0);
        }
        pace_write(pace, memory);
    }
}
