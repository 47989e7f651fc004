/* What kinds of sockets a task has, and what about each of them cannot move. */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAX_KINDS = 64, MAX_NAME = 32 }; /* struct proto's name has 32 bytes (include/net/sock.h) */

static bool is_socket(const char *path)
{
    char target[16];
    ssize_t bytes = readlink(path, target, sizeof target);

    return bytes > 7 && memcmp(target, "socket:", 7) == 0;
}

/*
 * One line "FD PROTOCOL" for the first socket of each protocol, and one "FD !FAULT" for each that has one. sockfs gives the name of
 * struct proto, whatever the family, as an extended attribute (net/socket.c, sockfs_xattr_get), of sockets of other tasks, too,
 * through /proc.
 */
int64_t socket_kinds(pid_t pid, char *text, size_t size)
{
    char directory[64], kinds[MAX_KINDS][MAX_NAME + 1];
    size_t known = 0, used = 0, kind;
    const struct dirent *entry;
    DIR *list;

    snprintf(directory, sizeof directory, "/proc/%d/fd", (int)pid);
    list = opendir(directory);
    if (!list) return errno == ENOENT || errno == ESRCH ? 0 : -errno;
    while ((entry = readdir(list)) && known < MAX_KINDS && used < size) {
        char path[sizeof directory + sizeof entry->d_name + 1], name[MAX_NAME + 1] = "";
        const char *fault;
        int printed;

        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (!is_socket(path)) continue;
        /* A descriptor that was closed meanwhile is not in use. */
        if (getxattr(path, "system.sockprotoname", name, MAX_NAME) < 0) continue;
        fault = socket_fault(pid, atoi(entry->d_name));
        printed = fault ? snprintf(text + used, size - used, "%s !%s\n", entry->d_name, fault) : 0;
        if (printed < 0 || (size_t)printed >= size - used) break;
        used += (size_t)printed;
        for (kind = 0; kind < known && strcmp(kinds[kind], name) != 0; kind++) {
        }
        if (kind < known) continue;
        memcpy(kinds[known++], name, sizeof name);
        printed = snprintf(text + used, size - used, "%s %s\n", entry->d_name, name);
        if (printed < 0 || (size_t)printed >= size - used) break;
        used += (size_t)printed;
    }
    closedir(list);
    return (int64_t)used;
}
