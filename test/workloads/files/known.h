/* What is known of the files of a tree: noted after each change, compared with what is there after a move
 * (known.c). */
#pragma once
#include "../common.h"

#include <sys/stat.h>

enum { MOST_FILES = 400, NAME_ROOM = 256 };

struct known {
    char path[NAME_ROOM];
    struct stat status;
    /* Of the contents, or of where a symbolic link leads; of the extended attributes with their names. */
    uint64_t contents, attributes;
    /* A directory in which CRIU makes and removes files of its own has other times after a restore. */
    bool times_vary;
};

extern struct known known[MOST_FILES];
extern size_t known_count;

/* What is at a path now, but for its name. False when nothing is. */
bool look(const char *path, struct known *found);
/* The entry of a path, or NULL. */
struct known *known_of(const char *path);
/* Notes what is at a path now, and at its other names, and its directory; forgets what is gone. */
void note(const char *path);
/* The same for a directory and all that is in it. */
void note_tree(const char *path);
/* Says what is not as it was noted, a line each, at most a few. Returns how much that is. */
int compare_all(const char *top);
/* The directory of a path, in one of a few buffers. */
const char *directory_of(const char *path);
