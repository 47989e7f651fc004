/*
 * mwarp-guest symbols NAME...: prints "NAME ADDRESS" for symbols of the kernel image. /proc/kallsyms is 10 MB
 * of text that the kernel makes as it is read; the scan stops at the last symbol wanted.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Prints the line when it is "ADDRESS TYPE NAME" for one of the names; symbols of modules have a tab after
 * the name. */
static int match(const char *line, size_t bytes, int count, char **names)
{
    const char *type = memchr(line, ' ', bytes);
    size_t name_bytes;
    int i;

    if (!type || type + 3 >= line + bytes || type[2] != ' ') return 0;
    name_bytes = (size_t)(line + bytes - (type + 3));
    for (i = 0; i < count; i++) {
        if (strlen(names[i]) != name_bytes || memcmp(names[i], type + 3, name_bytes) != 0) continue;
        printf("%s %.*s\n", names[i], (int)(type - line), line);
        return 1;
    }
    return 0;
}

int symbols_main(int count, char **names)
{
    static char buffer[64 * 1024];
    int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC), found = 0;
    size_t used = 0;

    if (fd < 0) return 1;
    while (found < count) {
        ssize_t n = read(fd, buffer + used, sizeof buffer - used);
        char *line = buffer, *end;

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        used += (size_t)n;
        while ((end = memchr(line, '\n', used - (size_t)(line - buffer)))) {
            found += match(line, (size_t)(end - line), count, names);
            line = end + 1;
        }
        used -= (size_t)(line - buffer);
        memmove(buffer, line, used);
        if (used == sizeof buffer) break;
    }
    close(fd);
    return found == count ? 0 : 1;
}
