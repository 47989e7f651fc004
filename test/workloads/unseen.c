/*
 * unseen FILE: for each line on standard input, opens the file, and writes a byte of its first page through a
 * shared mapping that it keeps. It reads the page first: on tmpfs no time of the file tells of the write
 * then.
 *
 * Output: "unseen ready", and "unseen written" for each line.
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char line[16];
    if (argc != 2) die("usage: unseen FILE");
    say("unseen ready");
    while (fgets(line, sizeof line, stdin)) {
        int fd = open(argv[1], O_RDWR | O_CLOEXEC);
        volatile char *page = fd < 0 ? MAP_FAILED : mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED) die("%s: %s", argv[1], strerror(errno));
        char first = page[0];
        page[0] = (char)(first + 1);
        close(fd);
        say("unseen written");
    }
    return 0;
}
