/*
 * unlinked: uses files whose names are gone: its own executable, which is of the image's layer and mapped, too; one
 * that has no other name; one that still has another.
 *
 * Output: "unlinked ready files=3", and for each SIGUSR1 "verify ok" or "verify BAD what".
 */
#define _GNU_SOURCE
#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REST_US = 20000, FILE_PAGES = 24 };

#define DIRECTORY "/tmp/unlinked"
#define NAME      DIRECTORY "/name"
#define OTHER     DIRECTORY "/other"
#define GONE      DIRECTORY "/gone"

static off_t size_of(int fd)
{
    struct stat stat;

    return fstat(fd, &stat) ? -1 : stat.st_size;
}

/* A sum over all words, each with its place. */
static uint64_t sum_of(int fd)
{
    uint64_t words[WORDS_PER_PAGE], sum = 0;
    off_t at = 0;

    for (ssize_t got; (got = pread(fd, words, sizeof words, at)) > 0; at += got) {
        for (size_t i = 0; i < (size_t)got / sizeof *words; i++)
            sum += mix64(words[i] ^ mix64((uint64_t)at / sizeof *words + i));
    }
    return sum;
}

static int make_file(const char *path)
{
    static _Alignas(PAGE_BYTES) uint64_t page[WORDS_PER_PAGE];
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);

    if (fd < 0) die("%s: %s", path, strerror(errno));
    for (int i = 0; i < FILE_PAGES; i++) {
        fill_page(page, (uint64_t)i + (uint64_t)strlen(path));
        if (write(fd, page, sizeof page) != sizeof page) die("%s: %s", path, strerror(errno));
    }
    return fd;
}

static int open_own(char *path)
{
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);

    if (length < 0) die("/proc/self/exe: %s", strerror(errno));
    path[length] = 0;
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* What is written by the one name must be seen by the other. */
static bool is_one_file(int fd)
{
    struct stat here, there;
    char mark;

    if (pwrite(fd, "x", 1, size_of(fd)) != 1) return false;
    int other = open(OTHER, O_RDONLY | O_CLOEXEC);
    bool same = other >= 0 && !fstat(fd, &here) && !fstat(other, &there) && here.st_ino == there.st_ino &&
                here.st_nlink == 1 && pread(other, &mark, 1, here.st_size - 1) == 1 && mark == 'x' &&
                ftruncate(fd, here.st_size - 1) == 0;

    if (other >= 0) close(other);
    return same;
}

/* Nothing but the other name: neither what was removed, nor what CRIU needed for a while. */
static bool is_tidy(void)
{
    DIR *directory = opendir(DIRECTORY);
    int names = 0;

    if (!directory) return false;
    for (const struct dirent *entry; (entry = readdir(directory));)
        names += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(directory);
    return names == 1 && access(OTHER, F_OK) == 0;
}

int main(void)
{
    char path[PATH_MAX];
    workload_init();
    if (mkdir(DIRECTORY, 0755)) die(DIRECTORY ": %s", strerror(errno));
    int own = open_own(path), gone = make_file(GONE), named = make_file(NAME);

    if (own < 0 || link(NAME, OTHER) || unlink(NAME) || unlink(GONE) || unlink(path))
        die("names cannot be removed: %s", strerror(errno));
    const int files[] = {own, gone, named};
    uint64_t sums[3];

    for (int i = 0; i < 3; i++) sums[i] = sum_of(files[i]);
    say("unlinked ready files=3");
    for (;;) {
        rest_us(REST_US);
        if (!verify_requested()) continue;
        const char *wrong = NULL;

        for (int i = 0; i < 3; i++)
            if (sum_of(files[i]) != sums[i]) wrong = i == 0 ? "its own executable" : "the contents of a file";
        if (access(path, F_OK) == 0) wrong = "its executable has its name again";
        if (!is_one_file(named)) wrong = "the file that has another name";
        if (!is_tidy()) wrong = "the directory";
        if (wrong) say("verify BAD %s", wrong);
        else say("verify ok");
    }
}
