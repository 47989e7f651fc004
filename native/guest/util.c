#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int read_all(int fd, void *buffer, size_t bytes)
{
    char *at = buffer;

    while (bytes > 0) {
        ssize_t n = read(fd, at, bytes);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (n == 0) return -EPIPE;
        at += n;
        bytes -= (size_t)n;
    }
    return 0;
}

int write_all(int fd, const void *buffer, size_t bytes)
{
    const char *at = buffer;

    while (bytes > 0) {
        ssize_t n = write(fd, at, bytes);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        at += n;
        bytes -= (size_t)n;
    }
    return 0;
}

int read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0) return -errno;
    n = read(fd, text, size - 1);
    if (n < 0) {
        int error = -errno;

        close(fd);
        return error;
    }
    close(fd);
    if (n > 0 && text[n - 1] == '\n') n--;
    text[n] = '\0';
    return (int)n;
}

static int write_new(const char *path, const char *text, int flags)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
    int error;

    if (fd < 0) return -errno;
    error = write_all(fd, text, strlen(text));
    if (close(fd) < 0 && error == 0) error = -errno;
    return error;
}

int write_text(const char *path, const char *text)
{
    return write_new(path, text, 0);
}

int write_text_atomic(const char *path, const char *text)
{
    char temporary[4096];
    int error;

    if (snprintf(temporary, sizeof temporary, "%s.new", path) >= (int)sizeof temporary) return -ENAMETOOLONG;
    error = write_new(temporary, text, O_CREAT | O_TRUNC);
    if (error < 0) return error;
    return rename(temporary, path) < 0 ? -errno : 0;
}

int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(int ms)
{
    struct timespec span = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&span, NULL);
}
