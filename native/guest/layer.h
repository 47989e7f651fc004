/*
 * What has changed of a container's own files between a look at them while it runs and another one while it
 * stands still: layer.c and tell.c by the walk of tree.c and by what writers.c notices, and blocks.c of large
 * files. incoming.c, digest.c and patch.c are the other side of it.
 */
#ifndef MWARP_LAYER_H
#define MWARP_LAYER_H

#include "guest.h"

#include <linux/stat.h>
#include <linux/types.h>
#include <sys/stat.h>

/* Linux takes no longer name in one call, the zero byte at its end included (PATH_MAX), and tar gives it
 * whole ones. */
#define LONGEST_PATH 4095

/* places.c: a growing text, of which strings with their zero bytes are parts. A failed allocation ends the
 * program. */
struct text {
    char *bytes;
    size_t used, room;
};
void text_add(struct text *text, const char *bytes, size_t count);
/* One string made of three. */
void text_string(struct text *text, const char *first, const char *second, const char *third);
/* DIRECTORY/NAME, to be freed. */
char *path_join(const char *directory, const char *name);
void *must_allocate(void *old, size_t bytes);

/* places.c: a set of files. */
struct place {
    uint64_t device, inode;
};
struct places {
    struct place *slots;
    size_t count, room;
};
void places_add(struct places *places, struct place place);
bool places_has(const struct places *places, struct place place);

/* tree.c: a file as statx(2) has it. */
struct facts {
    struct place place;
    struct statx_timestamp changed, modified;
    uint64_t size, bytes, attributes;
    uint32_t mode, links, user, group;
    /* What an overlay has in the place of a removed file: all of them may be one. */
    bool whiteout;
};
struct child {
    const char *name;
    struct facts facts;
};
struct directory {
    /* Relative to the container's directory. */
    const char *path;
    int fd;
    struct facts facts;
    struct child *children;
    size_t count;
};
/* tree.c: the access control list of a file, as an extended attribute has it; 0 when it has none but its
 * mode. */
#define MOST_ACL_BYTES 8192
#define ACL_ATTRIBUTE  "system.posix_acl_access"
ssize_t acl_of(int directory, const char *name, unsigned char list[MOST_ACL_BYTES]);
/* NAME of an open directory as a path, for calls that take no other. */
#define PATH_IN_ROOM (256 + 64)
void path_in(char path[PATH_IN_ROOM], int directory, const char *name);
/* A negative errno ends the walk. */
typedef int visit_directory(void *context, const struct directory *directory);
/*
 * Visits the directories of the tree `top` below `base`, each before those in it. Follows no link and leaves
 * no file system, whatever becomes of the tree meanwhile; while it is `live`, what vanishes is left out.
 * Returns 0 or a negative errno; -ENAMETOOLONG for a path longer than LONGEST_PATH.
 */
int walk_tree(int base, const char *top, bool live, visit_directory *visit, void *context);
/* A directory below `base`, opened without following a link. A negative errno. */
int open_below(int base, const char *path);
int look_at(int directory, const char *name, struct facts *facts);

/* digest.c: a file is compared by blocks, in each of which some pages hold data and others are holes. */
#define BLOCK_BYTES (64U * 1024)
#define BLOCK_PAGES 16U
struct block {
    /* Less than BLOCK_BYTES at the end of a file; a bit for each page that holds data. */
    uint32_t bytes, pages;
    unsigned char data[BLOCK_PAGES][BLOCK_BYTES / BLOCK_PAGES];
};
struct digest {
    uint64_t words[2];
};
/* A file without digests is none that could be compared, or is empty. */
struct digest_head {
    uint64_t size, digests;
    uint32_t mode, user, group, zero;
};
static inline uint64_t block_count(uint64_t size)
{
    return size / BLOCK_BYTES + (size % BLOCK_BYTES != 0);
}
uint32_t page_bytes(const struct block *block, unsigned page);
int read_block(int fd, uint64_t at, uint64_t size, struct block *block);
struct digest digest_of(const struct block *block);
/* A regular file with one name and no extended attributes; a negative errno for any other. */
int open_plain(int directory, const char *name, int flags, struct stat *status);
/* The same by a path; no link in it is followed. */
int open_plain_below(int base, char *path, int flags, struct stat *status);

/* records.c: what is remembered of a path. */
struct record {
    struct record *next, *following;
    struct facts facts;
    /* As the container sees it: an overlay has numbers of its own for files that it copied up. */
    struct place seen;
    bool moved, named_anew;
    /* Of what the other side has got, with its digests; NULL when it has not said, or could not. */
    const struct digest_head *there;
    char path[];
};
#define RECORD_BUCKETS 65536
struct records {
    struct record *buckets[RECORD_BUCKETS], *first;
};
struct record *records_add(struct records *records, const char *path, const struct facts *facts);
/* The one that was added last of a path, or NULL. */
struct record *records_find(const struct records *records, const char *path);
/* Of the directory that a record's file is in; NULL for the top of a tree. */
struct record *records_above(const struct records *records, const struct record *record);

/* blocks.c, patch.c: how the blocks travel. Each file's head is followed by its path, each block's by its
 * pages. */
struct patch_head {
    uint64_t size, blocks;
    int64_t seconds;
    uint32_t nanoseconds, path_bytes;
};
struct block_head {
    uint64_t at;
    uint32_t bytes, pages;
};
/* What is to be sent: how many bytes, and of what. */
struct patches {
    uint64_t bytes;
    struct text plans;
};
/* The names of files worth comparing, for digest.c on the other side; and what that says of them, in their
 * order. */
void blocks_candidates(const struct records *records, struct text *names);
int blocks_know(struct records *records, const char *bytes, size_t count);
/* Whether what is in a file by now can be said by blocks; then it is planned. */
bool blocks_plan(struct patches *patches, const struct record *record, int directory, const char *name);
int blocks_send(int base, const struct patches *patches);

/*
 * writers.c: files that may be written without a trace in their times, because they are open for it or
 * mapped. `watch` is a descriptor that says which ones were; a negative errno where the kernel cannot tell.
 */
int writers_watch(const char *const *file_systems, size_t count);
/* Adds files that were closed after they had been open for writing. A negative errno: some are not known. */
int writers_closed(int watch, struct places *places);
/*
 * Adds what the tasks of a cgroup have open for writing, or mapped as shared. A negative errno: not all is
 * known; of tasks that stand `still` also where descriptors are on their way through a socket, which are
 * nobody's meanwhile.
 */
int writers_in_group(const char *cgroup, bool still, struct places *places);

struct layer {
    int base, root, watch;
    const char *cgroup;
    char **trees;
    size_t tree_count;
    struct statx_timestamp began;
    struct records records;
    uint64_t files, bytes;
    /* Files that may have changed though their times are the same. */
    struct places suspects;
    /* Not every such file is known: any may be one. */
    bool blind;
    /* Of what is being told: for incoming.c, names for tar, files with several names that are left out, and
     * files that are not. */
    bool whole;
    struct text changes, names, linked;
    struct places sent;
    struct patches patches;
    /* Files of other kinds than tar links, which have several names: struct place, then the first name. */
    struct text special;
};
/* layer.c: whether a file is the one that is remembered, and its times say that it was not touched since. */
bool untouched(const struct layer *layer, const struct record *record, const struct facts *now);
void take_events(struct layer *layer);
/* tell.c: fills in what is to be told. 0 or a negative errno. */
int tell(struct layer *layer, bool whole);

#endif
