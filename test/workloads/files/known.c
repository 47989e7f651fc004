#define _GNU_SOURCE
#include "known.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MOST_LINES = 12, ATTRIBUTES_ROOM = 8192 };

struct known known[MOST_FILES];
size_t known_count;

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < count; i++) hash = (hash ^ at[i]) * 0x100000001b3ULL;
    return hash;
}

static uint64_t hash_contents(const char *path, mode_t mode)
{
    static unsigned char buffer[65536];
    uint64_t hash = 0xcbf29ce484222325ULL;
    ssize_t bytes;
    if (S_ISLNK(mode)) {
        bytes = readlink(path, (char *)buffer, sizeof buffer);
        return hash_bytes(hash, buffer, bytes < 0 ? 0 : (size_t)bytes);
    }
    if (!S_ISREG(mode)) return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    /* Holes are not read: a sparse file has gigabytes of them. */
    for (off_t at = 0; fd >= 0 && (at = lseek(fd, at, SEEK_DATA)) >= 0;) {
        off_t end = lseek(fd, at, SEEK_HOLE);
        hash = hash_bytes(hash, &at, sizeof at);
        for (; at < end; at += bytes) {
            size_t wanted = (size_t)(end - at) < sizeof buffer ? (size_t)(end - at) : sizeof buffer;
            bytes = pread(fd, buffer, wanted, at);
            if (bytes <= 0) break;
            hash = hash_bytes(hash, buffer, (size_t)bytes);
        }
        if (at < end) break;
    }
    if (fd >= 0) close(fd);
    return hash;
}

static uint64_t hash_attributes(const char *path)
{
    static char names[ATTRIBUTES_ROOM], value[ATTRIBUTES_ROOM];
    ssize_t bytes = llistxattr(path, names, sizeof names);
    uint64_t sum = 0;
    /* In no particular order. Which file of which file system one was copied from is another on each side. */
    for (const char *name = names; bytes > 0 && name < names + bytes; name += strlen(name) + 1) {
        if (!strcmp(name, "trusted.overlay.origin") || !strcmp(name, "trusted.overlay.uuid")) continue;
        ssize_t length = lgetxattr(path, name, value, sizeof value);
        if (length >= 0) sum += hash_bytes(hash_bytes(1, name, strlen(name)), value, (size_t)length);
    }
    return sum;
}

bool look(const char *path, struct known *found)
{
    if (lstat(path, &found->status)) return false;
    found->contents = hash_contents(path, found->status.st_mode);
    found->attributes = hash_attributes(path);
    return true;
}

struct known *known_of(const char *path)
{
    for (size_t i = 0; i < known_count; i++)
        if (!strcmp(known[i].path, path)) return &known[i];
    return NULL;
}

const char *directory_of(const char *path)
{
    static char buffers[4][NAME_ROOM];
    static unsigned turn;
    char *buffer = buffers[turn++ % 4];
    snprintf(buffer, NAME_ROOM, "%s", path);
    char *slash = strrchr(buffer, '/');
    if (slash) *slash = '\0';
    return buffer;
}

/* One entry, and no other. Returns it, or NULL when nothing is there any more. */
static struct known *note_one(const char *path)
{
    struct known fresh = {0}, *entry = known_of(path);
    if (!look(path, &fresh)) {
        if (entry) *entry = known[--known_count];
        return NULL;
    }
    if (!entry) {
        if (known_count == MOST_FILES) die("more than %d files", MOST_FILES);
        entry = &known[known_count++];
        *entry = (struct known){0};
        snprintf(entry->path, sizeof entry->path, "%s", path);
    }
    entry->status = fresh.status;
    entry->contents = fresh.contents;
    entry->attributes = fresh.attributes;
    return entry;
}

static bool has_links(const struct known *entry)
{
    return entry && !S_ISDIR(entry->status.st_mode) && entry->status.st_nlink > 1;
}

void note(const char *path)
{
    bool had_links = has_links(known_of(path));
    note_one(path);
    /* Not the one that the tree is in. */
    if (known_of(directory_of(path))) note_one(directory_of(path));
    if (!had_links && !has_links(known_of(path))) return;
    /*
     * What happens to a file shows at each of its names, and what is no name of it any more shows at those
     * that are left. Which those are is not asked by inode numbers: a move between two looks changes them.
     */
    for (size_t i = 0; i < known_count; i++) {
        struct stat status;
        if (S_ISDIR(known[i].status.st_mode)) continue;
        if (has_links(&known[i]) || (!lstat(known[i].path, &status) && status.st_nlink > 1))
            note_one(known[i].path);
    }
}

void note_tree(const char *path)
{
    char child[2 * NAME_ROOM];
    const struct dirent *entry;
    struct stat status;
    note(path);
    /* A link to a directory is none. */
    DIR *list = lstat(path, &status) || !S_ISDIR(status.st_mode) ? NULL : opendir(path);
    while (list && (entry = readdir(list))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        if (strlen(child) >= NAME_ROOM) die("a path is too long: %s", child);
        if (!lstat(child, &status) && S_ISDIR(status.st_mode))
            note_tree(child);
        else
            note(child);
    }
    if (list) closedir(list);
}

static int complaints;

static void complain(const char *path, const char *what, uint64_t now, uint64_t then)
{
    char line[2 * NAME_ROOM];
    if (complaints++ >= MOST_LINES) return;
    snprintf(line, sizeof line, "%.250s: %.150s is %llx, was %llx", path, what, (unsigned long long)now,
             (unsigned long long)then);
    for (char *at = line; *at; at++)
        if (*at == '\n') *at = '?';
    say("verify BAD %s", line);
}

static void compare(const struct known *then)
{
    struct known now = {0};
    if (!look(then->path, &now)) return complain(then->path, "presence", 0, 1);
    const struct stat *a = &now.status, *b = &then->status;
    bool directory = S_ISDIR(b->st_mode);
    if (a->st_mode != b->st_mode) complain(then->path, "mode", a->st_mode, b->st_mode);
    if (a->st_uid != b->st_uid || a->st_gid != b->st_gid) complain(then->path, "owner", a->st_uid, b->st_uid);
    if (a->st_rdev != b->st_rdev) complain(then->path, "device", a->st_rdev, b->st_rdev);
    if (!directory && a->st_nlink != b->st_nlink) complain(then->path, "links", a->st_nlink, b->st_nlink);
    if (!directory && a->st_size != b->st_size)
        complain(then->path, "size", (uint64_t)a->st_size, (uint64_t)b->st_size);
    if (S_ISREG(b->st_mode) && a->st_blocks > b->st_blocks)
        complain(then->path, "blocks", (uint64_t)a->st_blocks, (uint64_t)b->st_blocks);
    if (now.contents != then->contents) complain(then->path, "contents", now.contents, then->contents);
    if (now.attributes != then->attributes)
        complain(then->path, "attributes", now.attributes, then->attributes);
    if (then->times_vary) return;
    if (a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec)
        complain(then->path, "time", (uint64_t)a->st_mtim.tv_nsec, (uint64_t)b->st_mtim.tv_nsec);
    if (!has_links(then)) return;
    nlink_t names = 0;
    for (size_t i = 0; i < known_count; i++) {
        struct stat other;
        names += !lstat(known[i].path, &other) && other.st_ino == a->st_ino && other.st_dev == a->st_dev;
    }
    if (names != a->st_nlink) complain(then->path, "names", names, a->st_nlink);
}

static void look_for_strangers(const char *path)
{
    char child[2 * NAME_ROOM];
    const struct dirent *entry;
    DIR *list = opendir(path);
    while (list && (entry = readdir(list))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        if (!known_of(child)) complain(child, "presence", 1, 0);
        if (entry->d_type == DT_DIR) look_for_strangers(child);
    }
    if (list) closedir(list);
}

int compare_all(const char *top)
{
    complaints = 0;
    for (size_t i = 0; i < known_count; i++)
        if (!strncmp(known[i].path, top, strlen(top))) compare(&known[i]);
    look_for_strangers(top);
    return complaints;
}
