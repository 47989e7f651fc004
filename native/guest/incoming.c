/*
 * The other side of layer.c: what tar does not do with the files of a container that come a second time, when
 * it has unpacked them before. Strings, each with its zero byte:
 *
 *   D PATH  a directory that has the names which follow, and no other:
 *           "/NAME" of a directory, "-NAME" of what is none
 *   X PATH  a directory whose extended attributes come again
 *   S MODE USER GROUP SECONDS NANOSECONDS ACL PATH
 *           a socket, which tar leaves out; ACL in hexadecimal, or -
 *   L PATH  a pipe, a device or a socket, of which "=PATH", which follows, is another name
 *
 * Before tar what must not be there goes: it would be in the way, or stay for ever. So do extended attributes
 * of directories that it meets: it takes none away, and a default ACL would be inherited by what it creates.
 * After it come sockets and links.
 */
#include "layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NAMES_BYTES (64 * 1024)

static int clear_directory(int fd);

static int remove_entry(int directory, const char *name)
{
    int fd, error;

    if (unlinkat(directory, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR && errno != EPERM) return -errno;
    fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return -errno;
    error = clear_directory(fd);
    if (error == 0 && unlinkat(directory, name, AT_REMOVEDIR) < 0) error = -errno;
    return error;
}

static bool is_directory(int fd, const struct dirent *entry)
{
    struct stat status;

    if (entry->d_type != DT_UNKNOWN) return entry->d_type == DT_DIR;
    return fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

/* Removes what `names`, sorted, does not have; NULL: everything. Closes the directory. */
static int prune(int fd, char *const *names, size_t count)
{
    DIR *list = fdopendir(fd);
    const struct dirent *entry;
    int error = 0;

    if (!list) {
        error = -errno;
        close(fd);
        return error;
    }
    while (error == 0 && (errno = 0, entry = readdir(list))) {
        char key[sizeof entry->d_name + 1];
        size_t low = 0, high = count;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(key, sizeof key, "%c%s", is_directory(dirfd(list), entry) ? '/' : '-', entry->d_name);
        while (low < high) {
            size_t middle = (low + high) / 2;

            if (strcmp(names[middle], key) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        if (low == count || strcmp(names[low], key) != 0) error = remove_entry(dirfd(list), entry->d_name);
    }
    if (error == 0) error = -errno;
    closedir(list);
    return error;
}

static int clear_directory(int fd)
{
    return prune(fd, NULL, 0);
}

static int strip_attributes(int fd)
{
    static char names[NAMES_BYTES];
    ssize_t bytes = flistxattr(fd, names, sizeof names);

    if (bytes < 0) return errno == ENOTSUP ? 0 : -errno;
    for (const char *name = names; name < names + bytes; name += strlen(name) + 1) {
        /* Labels of a security module are its own, and may not be taken off. */
        if (fremovexattr(fd, name) < 0 && errno != ENODATA && strncmp(name, "security.", 9) != 0)
            return -errno;
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* `names`: of a list, which is sorted; `listed`: whether there is one. */
static int take_directory(int base, const char *path, bool listed, char **names, size_t count)
{
    int fd = open_below(base, path), error;

    /* It comes with tar, or what is in its place goes with the list of the directory above, which came
     * before. */
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP) return 0;
    if (fd < 0) return fd;
    error = strip_attributes(fd);
    if (error < 0 || !listed) {
        close(fd);
        return error;
    }
    if (count > 0) qsort(names, count, sizeof *names, by_name);
    return prune(fd, names, count);
}

/* `digits` of a list in hexadecimal, "-" for none; what the directory's default list has just given to the
 * file goes in any case. */
static int set_acl(int directory, const char *name, const char *digits)
{
    unsigned char list[MOST_ACL_BYTES];
    char path[PATH_IN_ROOM];
    size_t bytes = strlen(digits) / 2;
    unsigned byte;

    path_in(path, directory, name);
    if (lremovexattr(path, ACL_ATTRIBUTE) < 0 && errno != ENODATA && errno != ENOTSUP) return -errno;
    if (strcmp(digits, "-") == 0) return 0;
    if (bytes > sizeof list) return -EINVAL;
    for (size_t i = 0; i < bytes; i++) {
        if (sscanf(digits + 2 * i, "%2x", &byte) != 1) return -EINVAL;
        list[i] = (unsigned char)byte;
    }
    return lsetxattr(path, ACL_ATTRIBUTE, list, bytes, 0) < 0 ? -errno : 0;
}

struct socket {
    unsigned mode, user, group;
    struct timespec modified;
    const char *acl;
    char *directory, *name;
};

/* Takes the text apart; the parts are in it. */
static bool parse_socket(char *text, struct socket *socket)
{
    long long seconds;
    int start = 0;
    char *path;

    if (sscanf(text, "%o %u %u %lld %ld %n", &socket->mode, &socket->user, &socket->group, &seconds,
               &socket->modified.tv_nsec, &start) < 5 ||
        start == 0)
        return false;
    socket->modified.tv_sec = seconds;
    socket->acl = text + start;
    path = strchr(text + start, ' ');
    if (!path) return false;
    *path++ = '\0';
    socket->directory = path;
    socket->name = strrchr(path, '/');
    if (!socket->name) return false;
    *socket->name++ = '\0';
    return strlen(socket->name) <= NAME_MAX && strcmp(socket->name, "..") != 0;
}

static int make_socket_in(int directory, const struct socket *socket)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, socket->modified};
    const char *name = socket->name;
    int error = remove_entry(directory, name);

    if (error == 0 && mknodat(directory, name, S_IFSOCK | 0600, 0) < 0) error = -errno;
    if (error == 0 && fchownat(directory, name, socket->user, socket->group, AT_SYMLINK_NOFOLLOW) < 0)
        error = -errno;
    if (error == 0) error = set_acl(directory, name, socket->acl);
    if (error == 0 && fchmodat(directory, name, socket->mode & 07777, 0) < 0) error = -errno;
    if (error == 0 && utimensat(directory, name, times, AT_SYMLINK_NOFOLLOW) < 0) error = -errno;
    return error;
}

/* Opens the directory of something that is to be made in it, which keeps its times: tar has set them. */
static int open_keeping(int base, const char *path, struct timespec kept[2])
{
    int directory = open_below(base, path);
    struct stat status;

    if (directory < 0) return directory;
    if (fstat(directory, &status) < 0) {
        int error = -errno;

        close(directory);
        return error;
    }
    kept[0] = status.st_atim;
    kept[1] = status.st_mtim;
    return directory;
}

static int close_kept(int directory, const struct timespec kept[2], int error)
{
    if (error == 0 && futimens(directory, kept) < 0) error = -errno;
    close(directory);
    return error;
}

static int make_socket(int base, char *text)
{
    struct timespec kept[2];
    struct socket socket;
    int directory;

    if (!parse_socket(text, &socket)) return -EINVAL;
    directory = open_keeping(base, socket.directory, kept);
    return directory < 0 ? directory : close_kept(directory, kept, make_socket_in(directory, &socket));
}

/* Cuts a path in two: what is left of it is the directory. */
static char *cut_name(char *path)
{
    char *name = strrchr(path, '/');

    if (!name) return NULL;
    *name++ = '\0';
    return name;
}

static int make_link(int base, char *first, char *other)
{
    char *first_name = cut_name(first), *other_name = cut_name(other);
    struct timespec kept[2];
    int from, to, error;

    if (!first_name || !other_name) return -EINVAL;
    from = open_below(base, first);
    if (from < 0) return from;
    to = open_keeping(base, other, kept);
    error = to < 0 ? to : remove_entry(to, other_name);
    if (error == 0 && linkat(from, first_name, to, other_name, 0) < 0) error = -errno;
    close(from);
    return to < 0 ? error : close_kept(to, kept, error);
}

static int before_tar(int base, char *at, const char *end)
{
    char **names = NULL;
    size_t room = 0;
    int error = 0;

    while (error == 0 && at < end) {
        char *path = at + 1;
        bool listed = *at == 'D';
        size_t count = 0;

        if (!strchr("DXSL=", *at)) error = -EINVAL;
        for (at += strlen(at) + 1; listed && at < end && (*at == '/' || *at == '-'); at += strlen(at) + 1) {
            if (count == room) {
                room = room == 0 ? 256 : 2 * room;
                names = must_allocate(names, room * sizeof *names);
            }
            names[count++] = at;
        }
        if (error == 0 && strchr("DX", path[-1])) error = take_directory(base, path, listed, names, count);
    }
    free(names);
    return error;
}

static int after_tar(int base, char *at, const char *end)
{
    int error = 0;

    for (char *next; error == 0 && at < end; at = next) {
        next = at + strlen(at) + 1;
        if (*at == 'S') error = make_socket(base, at + 1);
        if (*at != 'L') continue;
        if (next >= end || *next != '=') return -EINVAL;
        error = make_link(base, at + 1, next + 1);
        next += strlen(next) + 1;
    }
    return error;
}

int layer_incoming(const char *directory, char *changes, size_t bytes, bool unpacked)
{
    int base, error;

    /* Every string ends inside. */
    if (bytes > 0 && changes[bytes - 1] != '\0') return -EINVAL;
    base = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base < 0) return -errno;
    error = unpacked ? after_tar(base, changes, changes + bytes) : before_tar(base, changes, changes + bytes);
    close(base);
    return error;
}
