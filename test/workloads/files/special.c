#define _GNU_SOURCE
#include "special.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAPPED_BYTES = 16 * PAGE_BYTES, GONE_BYTES = 50000 };
#define SPARSE_BYTES (1LL << 30)

char special[NAME_ROOM];
static char *mapped, mapped_path[NAME_ROOM], appended_path[NAME_ROOM];
static int appended, deleted, listener;

static char *in_special(const char *name)
{
    static char path[NAME_ROOM];
    snprintf(path, sizeof path, "%.200s/%s", special, name);
    return path;
}

/* What is there throughout: in a directory of its own, as CRIU makes and removes files where such files are.
 */
void make_special(const char *top)
{
    char name[NAME_ROOM];
    snprintf(special, sizeof special, "%.200s/special", top);
    if (mkdir(special, 0755)) die("%s: %s", special, strerror(errno));
    strcpy(mapped_path, in_special("mapped"));
    int fd = open(mapped_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    fill(fd, 0, MAPPED_BYTES);
    mapped = mmap(NULL, MAPPED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) die("mmap: %s", strerror(errno));
    for (size_t at = 0; at < MAPPED_BYTES; at += PAGE_BYTES) (void)*(volatile char *)(mapped + at);
    close(fd);
    strcpy(appended_path, in_special("appended"));
    appended = open(appended_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    fd = open(in_special("sparse"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    fill(fd, SPARSE_BYTES / 2, 10000);
    if (ftruncate(fd, SPARSE_BYTES)) die("ftruncate: %s", strerror(errno));
    close(fd);
    deleted = open(in_special("deleted"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    fill(deleted, 0, GONE_BYTES);
    unlink(in_special("deleted"));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s", in_special("bound"));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1))
        die("bind: %s", strerror(errno));
    strcpy(name, in_special("old-socket"));
    make_socket(name);
    note_tree(special);
    known_of(special)->times_vary = true;
    known_of(in_special("bound"))->times_vary = true;
}

/* Whether what has no name, and who listens at one, are still there. */
int compare_open(void)
{
    static char before[GONE_BYTES], now[GONE_BYTES];
    static bool read_before;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), bad = 0;
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s", in_special("bound"));
    /* Where only files are moved, nobody takes a listener along. */
    if (!getenv("FILES_ALONE") && (connect(client, (struct sockaddr *)&address, sizeof address) ||
                                   close(accept(listener, NULL, NULL)))) {
        say("verify BAD nobody listens at the socket");
        bad++;
    }
    close(client);
    if (pread(deleted, now, sizeof now, 0) != sizeof now ||
        (read_before && memcmp(before, now, sizeof now))) {
        say("verify BAD a deleted file that is open");
        bad++;
    }
    memcpy(before, now, sizeof now);
    read_before = true;
    return bad;
}

void append(void)
{
    if (write(appended, "appended\n", 9) == 9) note(appended_path);
}

void write_mapped(void)
{
    mapped[draw(MAPPED_BYTES)]++;
    note(mapped_path);
}
