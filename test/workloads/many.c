/*
 * many TASKS DESCRIPTORS: as many processes, each with as many descriptors, of kinds that can all be moved.
 * For a look at a container that has much to look at.
 *
 * Output: "many ready tasks=N descriptors=N", and for each SIGUSR1 "verify ok".
 */
#define _GNU_SOURCE
#include "common.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { REST_US = 20000 };

static void open_all(long descriptors)
{
    for (long i = 0; i < descriptors; i++) {
        int fd = i % 2 ? eventfd(0, EFD_CLOEXEC) : open("/dev/null", O_RDONLY | O_CLOEXEC);

        if (fd < 0) die("descriptor %ld of %ld cannot be opened", i, descriptors);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) die("usage: many TASKS DESCRIPTORS");
    long tasks = parse_number("TASKS", argv[1], 1, 1000);
    long descriptors = parse_number("DESCRIPTORS", argv[2], 1, 100000);
    workload_init();
    open_all(descriptors);
    for (long i = 1; i < tasks; i++) {
        pid_t child = fork();

        if (child < 0) die("fork failed");
        if (child > 0) continue;
        for (;;) pause();
    }
    say("many ready tasks=%ld descriptors=%ld", tasks, descriptors);
    for (;;) {
        rest_us(REST_US);
        if (verify_requested()) say("verify ok");
    }
}
