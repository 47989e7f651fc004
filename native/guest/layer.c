/*
 * mwarp-guest layer DIRECTORY CGROUP ROOT TREE...: says what of a container's files must be sent once it
 * stands still, when they were sent before while it ran. The trees lie in DIRECTORY: "upper", which the
 * container sees as ROOT, and its volumes.
 *
 * One byte on stdin is a request, answered on stdout by a struct answer and what it says:
 *
 *   s  before the first pass, the container runs: remembers every file.
 *      a: how many, b: the bytes that they take
 *   d  after the first pass, the container may still run.
 *      Then follow a bytes, the names of large files for digest.c
 *   k  is followed by a u64 and as many bytes, which digest.c has made of these names
 *   r  the container stands still: what has changed.
 *      Then follow a bytes for incoming.c, b bytes of names for tar, c for patch.c
 *   w  the same, as if nothing had been sent before.
 *      `whole`: r was answered like this, because there was no first look
 *
 * A file is as it was when its name still leads to it and its times are those of before the first pass.
 * Why that is enough:
 *
 *   - Whatever changes a file, or a directory by a name in it, sets its change time, which nobody can set to
 *     another. The kernel takes it from a clock with ticks of some milliseconds: what has changed in the
 *     tick of the first look, or later, is taken to change again.
 *   - A write sets the time first and may still be under way when the file is looked at, and what is
 *     written through mappings sets none: writers.c.
 *   - tar opens names, not files. A name that leads to a file before and after the first pass may have led
 *     to another one in between if a directory above was renamed and renamed back: then its own change time
 *     and that of the directory it is in have changed by the end of the first pass (`d`), and everything in
 *     it is sent again.
 */
#include "layer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct answer {
    int32_t status;
    uint32_t whole;
    uint64_t a, b, c;
};

static struct record *remember(struct layer *layer, const char *path, const struct facts *facts)
{
    layer->files++;
    layer->bytes += facts->bytes;
    return records_add(&layer->records, path, facts);
}

static bool same_time(struct statx_timestamp a, struct statx_timestamp b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Whether a file is the one that is remembered, and its times say that it was not touched since. */
bool untouched(const struct layer *layer, const struct record *record, const struct facts *now)
{
    const struct facts *then = &record->facts;
    bool settled =
        then->changed.tv_sec < layer->began.tv_sec ||
        (then->changed.tv_sec == layer->began.tv_sec && then->changed.tv_nsec < layer->began.tv_nsec);

    return settled && then->place.inode == now->place.inode && then->place.device == now->place.device &&
           same_time(then->changed, now->changed) && same_time(then->modified, now->modified) &&
           then->size == now->size && then->mode == now->mode;
}

void take_events(struct layer *layer)
{
    if (layer->watch >= 0 && writers_closed(layer->watch, &layer->suspects) < 0) layer->blind = true;
}

static bool is_upper(const char *path)
{
    return strcmp(path, "upper") == 0 || strncmp(path, "upper/", 6) == 0;
}

/* The container's view of a directory of its upper one; a negative errno, also when it was moved meanwhile.
 */
static int open_seen(const struct layer *layer, const char *path)
{
    return open_below(layer->root, path[5] == '\0' ? "." : path + 6);
}

static int remember_directory(void *context, const struct directory *directory)
{
    struct layer *layer = context;
    struct record *own = records_find(&layer->records, directory->path);
    int seen = is_upper(directory->path) ? open_seen(layer, directory->path) : directory->fd;

    if (!own) own = remember(layer, directory->path, &directory->facts);
    /* Another one by now than when the one above it was read. */
    if (!untouched(layer, own, &directory->facts)) own->moved = true;
    for (size_t i = 0; i < directory->count; i++) {
        const struct child *child = &directory->children[i];
        char *path = path_join(directory->path, child->name);
        struct record *record = remember(layer, path, &child->facts);
        struct facts facts;

        free(path);
        if (!S_ISREG(child->facts.mode) || seen == directory->fd) continue;
        if (seen >= 0 && look_at(seen, child->name, &facts) == 0)
            record->seen = facts.place;
        else
            places_add(&layer->suspects, child->facts.place);
    }
    if (seen >= 0 && seen != directory->fd) close(seen);
    take_events(layer);
    return 0;
}

static int start_watch(struct layer *layer, const char *root)
{
    const char *file_systems[] = {root, "."};

    /* Volumes lie on the file system of the container's directory, and are written past the overlay. */
    layer->watch = writers_watch(file_systems, layer->tree_count > 1 ? 2 : 1);
    return layer->watch < 0 ? layer->watch : 0;
}

static int remember_all(struct layer *layer, const char *root)
{
    struct timespec now;
    int error = start_watch(layer, root);

    if (error == 0) error = writers_in_group(layer->cgroup, false, &layer->suspects);
    /* The clock that the kernel takes change times from. */
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    layer->began = (struct statx_timestamp){.tv_sec = now.tv_sec, .tv_nsec = (uint32_t)now.tv_nsec};
    for (size_t i = 0; error == 0 && i < layer->tree_count; i++)
        error = walk_tree(layer->base, layer->trees[i], true, remember_directory, layer);
    return error;
}

static void look_for_renames(struct layer *layer, struct record *record)
{
    struct facts now;
    int fd;

    if (!S_ISDIR(record->facts.mode) || record->moved) return;
    fd = open_below(layer->base, record->path);
    record->moved = fd < 0 || look_at(fd, "", &now) < 0 || !untouched(layer, record, &now);
    if (fd >= 0) close(fd);
}

/* Everything under a directory that may have been away during the first pass is packed again. */
static void suspect_renamed(struct layer *layer)
{
    struct records *records = &layer->records;
    struct record *record, *up;

    for (record = records->first; record; record = record->following) look_for_renames(layer, record);
    for (record = records->first; record; record = record->following)
        record->named_anew = record->moved && (up = records_above(records, record)) && up->moved;
    for (record = records->first; record; record = record->following) {
        for (up = record; up && !up->named_anew; up = records_above(records, up)) {
        }
        if (up) places_add(&layer->suspects, record->facts.place);
    }
}

static int reply(const struct layer *layer, int status, struct answer answer)
{
    if (status < 0) answer = (struct answer){.status = status};
    answer.whole = layer->whole;
    return write_all(STDOUT_FILENO, &answer, sizeof answer);
}

static int say_candidates(struct layer *layer)
{
    struct text names = {0};
    int error;

    suspect_renamed(layer);
    blocks_candidates(&layer->records, &names);
    error = reply(layer, 0, (struct answer){.a = names.used});
    if (error == 0) error = write_all(STDOUT_FILENO, names.bytes, names.used);
    free(names.bytes);
    return error;
}

/* The records refer to what is taken here. */
static int take_digests(struct layer *layer)
{
    uint64_t count;
    char *bytes;

    if (read_all(STDIN_FILENO, &count, sizeof count) < 0) return -EPIPE;
    bytes = must_allocate(NULL, count + 1);
    if (read_all(STDIN_FILENO, bytes, count) < 0) return -EPIPE;
    return reply(layer, blocks_know(&layer->records, bytes, count), (struct answer){0});
}

static int say_changes(struct layer *layer, bool whole)
{
    int error = tell(layer, whole);
    struct answer answer = {.a = layer->changes.used, .b = layer->names.used, .c = layer->patches.bytes};

    if (reply(layer, error, answer) < 0) return -EPIPE;
    if (error == 0) error = write_all(STDOUT_FILENO, layer->changes.bytes, layer->changes.used);
    if (error == 0) error = write_all(STDOUT_FILENO, layer->names.bytes, layer->names.used);
    return error == 0 ? blocks_send(layer->base, &layer->patches) : error;
}

static int serve(struct layer *layer, char request, const char *root)
{
    int error;

    switch (request) {
    case 's':
        error = remember_all(layer, root);
        /* What is not remembered whole is worth nothing. */
        layer->blind |= error < 0;
        return reply(layer, error, (struct answer){.a = layer->files, .b = layer->bytes});
    case 'd':
        return say_candidates(layer);
    case 'k':
        return take_digests(layer);
    case 'r':
    case 'w':
        return say_changes(layer, request == 'w');
    default:
        return -EPROTO;
    }
}

int layer_main(int argc, char **argv)
{
    static struct layer layer;
    struct pollfd polls[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.events = POLLIN}};
    char request;

    if (argc < 4 || chdir(argv[0]) < 0) return 2;
    layer.base = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    layer.root = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    layer.cgroup = argv[1];
    layer.watch = -1;
    layer.trees = argv + 3;
    layer.tree_count = (size_t)argc - 3;
    if (layer.base < 0 || layer.root < 0) return 1;
    for (;;) {
        polls[1].fd = layer.watch;
        if (poll(polls, 2, -1) < 0) {
            if (errno == EINTR) continue;
            return 1;
        }
        /* While events wait they hold on to files that may long be deleted. */
        if (polls[1].revents) take_events(&layer);
        if (!polls[0].revents) continue;
        if (read(STDIN_FILENO, &request, 1) != 1) return 0;
        if (serve(&layer, request, argv[2]) < 0) return 1;
    }
}
