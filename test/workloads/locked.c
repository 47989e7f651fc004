/*
 * locked FILE OTHER: holds a lock on one file, and has another open that it has removed.
 *
 * Output: "locked ready".
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3) die("usage: locked FILE OTHER");
    workload_init();
    int fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX)) die("%s: %s", argv[1], strerror(errno));
    if (open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600) < 0 || unlink(argv[2]))
        die("%s: %s", argv[2], strerror(errno));
    say("locked ready");
    for (;;) rest_us(100000);
}
