/*
 * manifest DIRECTORY TREE...: all that can be said of the files of some trees in a directory, so that two
 * that are the same give the same text, wherever they are: a line each with name, kind, mode, owner, device,
 * size, time, contents with their holes, extended attributes, and the first of the other names of the file.
 */
#define _GNU_SOURCE
#include "files/known.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct named {
    ino_t inode;
    char *path;
} * named;
static size_t named_count;

/* Names are any bytes. */
static void print_name(const char *name)
{
    for (; *name; name++)
        if (isgraph((unsigned char)*name) && *name != '\\')
            putchar(*name);
        else
            printf("\\%02x", (unsigned char)*name);
}

static const char *first_name(const struct stat *status, const char *path)
{
    for (size_t i = 0; i < named_count; i++)
        if (named[i].inode == status->st_ino) return named[i].path;
    named = realloc(named, (named_count + 1) * sizeof *named);
    if (!named) die("no memory");
    named[named_count++] = (struct named){status->st_ino, strdup(path)};
    return NULL;
}

static void print_file(const char *path, const struct known *found)
{
    const struct stat *status = &found->status;
    bool directory = S_ISDIR(status->st_mode);
    /* What an overlay has in the place of a removed file: all of them may be one. */
    bool whiteout = S_ISCHR(status->st_mode) && status->st_rdev == 0;
    const char *first = directory || whiteout || status->st_nlink == 1 ? NULL : first_name(status, path);

    print_name(path);
    printf(" %o %u:%u %llx %lld %lld.%09ld %016llx %016llx ", status->st_mode, status->st_uid, status->st_gid,
           (unsigned long long)status->st_rdev, directory ? 0 : (long long)status->st_size,
           (long long)status->st_mtim.tv_sec, status->st_mtim.tv_nsec, (unsigned long long)found->contents,
           (unsigned long long)found->attributes);
    if (first) print_name(first);
    putchar('\n');
}

static void print_tree(const char *path)
{
    struct known found = {0};
    struct dirent **list = NULL;
    int count = 0;

    if (!look(path, &found)) die("%s: %s", path, strerror(errno));
    print_file(path, &found);
    if (S_ISDIR(found.status.st_mode)) count = scandir(path, &list, NULL, alphasort);
    if (count < 0) die("%s: %s", path, strerror(errno));
    for (int i = 0; i < count; i++) {
        char *child;

        if (strcmp(list[i]->d_name, ".") && strcmp(list[i]->d_name, "..")) {
            if (asprintf(&child, "%s/%s", path, list[i]->d_name) < 0) die("no memory");
            print_tree(child);
            free(child);
        }
        free(list[i]);
    }
    free(list);
}

int main(int argc, char **argv)
{
    if (argc < 3) die("usage: manifest DIRECTORY TREE...");
    if (chdir(argv[1])) die("%s: %s", argv[1], strerror(errno));
    for (int i = 2; i < argc; i++) print_tree(argv[i]);
    return 0;
}
