/*
 * files SEED SHARE DIRECTORY...: trees with every kind of file, which are changed all the time in every way
 * there is; and what must be there, which is noted after each change. SHARE: of a processor, in percent. The
 * first directory may have files already.
 *
 * Output: "files ready", "line N" for N = 1, 2, ... now and then, and for each SIGUSR1 "verify ok files=N
 * changes=N", or a line "verify BAD ..." for what is not as it was noted.
 */
#define _GNU_SOURCE
#include "files/special.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { ENOUGH_FILES = 220, CHANGES_PER_LINE = 20 };

static uint64_t seed;
static long changes;
static char **tops;
static int top_count;

uint64_t draw(uint64_t limit)
{
    seed = mix64(seed);
    return seed % limit;
}

/* A known path with all of these mode bits of its kind (S_IFMT), below no special directory; "" when there is
 * none. */
static void pick(mode_t kind, char *path)
{
    path[0] = '\0';
    for (int tries = 0; tries < 60 && known_count > 0; tries++) {
        const struct known *entry = &known[draw(known_count)];
        if (!strncmp(entry->path, special, strlen(special))) continue;
        if (kind && (entry->status.st_mode & S_IFMT) != kind) continue;
        snprintf(path, NAME_ROOM, "%s", entry->path);
        return;
    }
}

/* A new or old name in some directory. */
static void pick_name(char *path)
{
    char directory[NAME_ROOM];
    pick(S_IFDIR, directory);
    if (strlen(directory) > 120) snprintf(directory, sizeof directory, "%s", tops[draw((uint64_t)top_count)]);
    snprintf(path, NAME_ROOM, "%.200s/%s%llu", directory, draw(8) ? "n" : "odd name \n\\",
             (unsigned long long)draw(40));
}

void fill(int fd, off_t at, size_t count)
{
    char buffer[4096];
    while (count > 0) {
        size_t part = count < sizeof buffer ? count : sizeof buffer;
        for (size_t i = 0; i < part; i += sizeof(uint64_t)) {
            uint64_t word = draw(UINT64_MAX);
            memcpy(buffer + i, &word, sizeof word);
        }
        if (pwrite(fd, buffer, part, at) != (ssize_t)part) die("pwrite: %s", strerror(errno));
        at += (off_t)part;
        count -= part;
    }
}

/* Writes in the middle, at the end or far behind it; or cuts off. */
static void change_contents(const char *path)
{
    struct stat status;
    if (!lstat(path, &status) && !S_ISREG(status.st_mode)) return;
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600 + (mode_t)draw(64));
    if (fd < 0 || fstat(fd, &status)) return;
    off_t size = status.st_size < 4000000 ? status.st_size : 4000000;
    switch (draw(5)) {
    case 0:
        if (ftruncate(fd, (off_t)draw((uint64_t)size + 1))) die("ftruncate: %s", strerror(errno));
        break;
    case 1:
        fill(fd, size + (off_t)draw(3000000), 1 + draw(9000));
        break;
    case 2:
        if (size > 0) fill(fd, (off_t)draw((uint64_t)size), 1 + draw(5000));
        break;
    default:
        fill(fd, size > 200000 ? 0 : size, 1 + draw(40000));
    }
    close(fd);
    note(path);
}

/* What is read first is then written without a fault: no time tells of it. */
static void write_unseen(const char *path)
{
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    if (fd < 0) return;
    if (!fstat(fd, &status) && status.st_size > 0 && S_ISREG(status.st_mode)) {
        size_t last = ((size_t)status.st_size - 1) % PAGE_BYTES;
        off_t at = status.st_size - 1 - (off_t)last;
        volatile char *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
        if (page != MAP_FAILED) {
            page[last] = (char)(page[last] + 1 + (char)draw(100));
            close(fd);
            fd = -1;
            page[last / 2] = (char)(page[last / 2] ^ 0x55);
            munmap((void *)page, PAGE_BYTES);
        }
    }
    if (fd >= 0) close(fd);
    note(path);
}

static void remove_tree(const char *path)
{
    for (size_t i = known_count; i-- > 0;) {
        char below[NAME_ROOM];
        if (i >= known_count) continue;
        snprintf(below, sizeof below, "%s", known[i].path);
        if (strncmp(below, path, strlen(path)) || below[strlen(path)] != '/') continue;
        if (S_ISDIR(known[i].status.st_mode)) remove_tree(below);
        if (!remove(below)) {
            note(below);
            i = known_count;
        }
    }
    remove(path);
    note(path);
}

static bool is_top(const char *path)
{
    for (int i = 0; i < top_count; i++)
        if (!strcmp(path, tops[i])) return true;
    return false;
}

static void note_moved(const char *from, const char *to)
{
    /* What lay under the old name is gone, what lies under the new one is new. */
    for (size_t i = known_count; i-- > 0;) {
        char path[NAME_ROOM];
        if (i >= known_count) continue;
        snprintf(path, sizeof path, "%s", known[i].path);
        size_t length = strlen(from);
        if (!strncmp(path, from, length) && (path[length] == '/' || !path[length])) note(path);
    }
    note(from);
    note(directory_of(from));
    note_tree(to);
}

static void rename_something(void)
{
    char from[NAME_ROOM], to[NAME_ROOM];
    pick(0, from);
    pick_name(to);
    if (!from[0] || is_top(from)) return;
    if (!rename(from, to)) note_moved(from, to);
    pick(S_IFDIR, from);
    pick(S_IFDIR, to);
    if (draw(3) || is_top(from) || is_top(to) || !from[0]) return;
    if (!syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 2 /* RENAME_EXCHANGE */)) {
        note_tree(from);
        note_moved(from, to);
        note_moved(to, from);
    }
}

/* A directory goes to another name and comes back: what is in it shows nothing of that. */
static void go_and_return(void)
{
    char from[NAME_ROOM], to[NAME_ROOM];
    pick(S_IFDIR, from);
    pick_name(to);
    if (!from[0] || is_top(from) || rename(from, to)) return;
    if (known_of(to))
        note_moved(from, to);
    else if (!rename(to, from))
        note_tree(from);
    note(directory_of(to));
}

static void change_attributes(const char *path)
{
    char value[300];
    /* An access control list: for the owner, user 1234, the group, a mask, and others
     * (linux/posix_acl_xattr.h). */
    static const unsigned char list[] = {2, 0,    0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  7,
                                         0, 0xd2, 4,   0,   0,   4,   0,  5, 0,   255, 255, 255, 255, 16, 0,
                                         7, 0,    255, 255, 255, 255, 32, 0, 5,   0,   255, 255, 255, 255};
    /* What a socket that nobody listens at takes along. */
    static const uint64_t for_sockets[] = {2, 3, 4, 6, 7};
    const struct known *entry = known_of(path);
    for (size_t i = 0; i < sizeof value; i++) value[i] = (char)draw(256);
    switch (entry && S_ISSOCK(entry->status.st_mode) ? for_sockets[draw(5)] : draw(8)) {
    case 0:
        lsetxattr(path, "user.one", value, draw(sizeof value), 0);
        break;
    case 1:
        lremovexattr(path, "user.one");
        break;
    case 2:
        lsetxattr(path, draw(2) ? "system.posix_acl_default" : "system.posix_acl_access", list, sizeof list,
                  0);
        break;
    case 3:
        lremovexattr(path, draw(2) ? "system.posix_acl_default" : "system.posix_acl_access");
        break;
    case 4:
        if (lchown(path, (uid_t)draw(70000), (gid_t)draw(70000))) return;
        break;
    case 5:
        lsetxattr(path, "security.capability", "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0);
        break;
    case 6: {
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                    {.tv_sec = (time_t)draw(2000000000), .tv_nsec = (long)draw(1000000000)}};
        if (utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW)) return;
        break;
    }
    default:
        if (entry && !S_ISLNK(entry->status.st_mode) &&
            chmod(path, S_ISDIR(entry->status.st_mode) ? 0700 | (mode_t)draw(01000) : (mode_t)draw(07777)))
            return;
    }
    note(path);
}

void make_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) < sizeof address.sun_path) {
        strcpy(address.sun_path, path);
        /* It stays when nobody listens any more. */
        if (fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof address)) note(path);
    }
    if (fd >= 0) close(fd);
}

static void make_something(void)
{
    char path[NAME_ROOM], target[NAME_ROOM];
    pick_name(path);
    switch (known_count > ENOUGH_FILES ? 99 : draw(11)) {
    case 0:
        if (!mkdir(path, 0700 + (mode_t)draw(64))) note(path);
        break;
    case 1:
        pick(0, target);
        if (!symlink(draw(2) ? target : "nowhere", path)) note(path);
        break;
    case 2:
    case 6:
    case 7:
        pick(draw(3) ? S_IFREG : 0, target);
        if (!link(target, path)) note(path);
        break;
    case 3:
        if (!mkfifo(path, 0600)) note(path);
        break;
    case 4:
        if (!mknod(path, (draw(2) ? S_IFCHR : S_IFBLK) | 0640, makedev(240 + (unsigned)draw(6), 3)))
            note(path);
        break;
    case 5:
        make_socket(path);
        break;
    case 99:
        break;
    default:
        change_contents(path);
    }
}

/* In the place of a directory another one, a file or nothing: of a directory of a lower layer it is opaque
 * then, or whited out. */
static void replace_directory(void)
{
    char path[NAME_ROOM];
    pick(S_IFDIR, path);
    if (!path[0] || is_top(path)) return;
    remove_tree(path);
    if (draw(3) == 0)
        change_contents(path);
    else if (draw(2) && !mkdir(path, 0751))
        note(path);
}

static void change(void)
{
    char path[NAME_ROOM];
    switch (draw(16)) {
    case 0:
    case 1:
    case 2:
        return make_something();
    case 3:
        return rename_something();
    case 4:
        return go_and_return();
    case 5:
    case 6:
        pick(0, path);
        return path[0] && !is_top(path) ? change_attributes(path) : (void)0;
    case 7:
        pick(draw(2) ? S_IFREG : S_IFDIR, path);
        return path[0] ? change_attributes(path) : (void)0;
    case 8:
        pick(0, path);
        if (path[0] && !is_top(path) && known_count > ENOUGH_FILES / 2 && !remove(path)) note(path);
        return;
    case 9:
        return draw(6) ? (void)0 : replace_directory();
    case 10:
        append();
        return;
    case 11:
    case 12:
        return write_mapped();
    case 13:
    case 14:
        pick(S_IFREG, path);
        return path[0] ? write_unseen(path) : (void)0;
    default:
        pick(S_IFREG, path);
        if (path[0]) change_contents(path);
    }
}

int main(int argc, char **argv)
{
    if (argc < 4) die("usage: files SEED SHARE DIRECTORY...");
    seed = (uint64_t)parse_number("SEED", argv[1], 0, LONG_MAX);
    unsigned share = (unsigned)parse_number("SHARE", argv[2], 1, 100);
    tops = argv + 3;
    top_count = argc - 3;
    workload_init();
    umask(0);
    for (int i = 0; i < top_count; i++) note_tree(tops[i]);
    make_special(tops[0]);
    for (int i = 0; i < 2000; i++) change();
    compare_open();
    say("files ready files=%zu", known_count);
    for (;;) {
        change();
        if (++changes % CHANGES_PER_LINE == 0) say("line %ld", changes / CHANGES_PER_LINE);
        rest_to_share(share);
        if (!verify_requested()) continue;
        int bad = compare_open();
        for (int i = 0; i < top_count; i++) bad += compare_all(tops[i]);
        if (!bad) say("verify ok files=%zu changes=%ld", known_count, changes);
    }
}
