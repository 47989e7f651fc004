/* What has changed of a container's files: the part of layer.c that is done while the container stands still.
 */
#include "layer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* More is not taken at a time on the other side (pages.c, MAX_BODY_BYTES): a million names in directories
 * that have changed. */
#define MOST_CHANGES (48U * 1024 * 1024)

static bool is_unchanged(struct layer *layer, const char *path, const struct facts *now)
{
    const struct record *record = layer->whole ? NULL : records_find(&layer->records, path);

    if (layer->blind && S_ISREG(now->mode)) return false;
    return record && untouched(layer, record, now) && !places_has(&layer->suspects, record->facts.place) &&
           !places_has(&layer->suspects, record->seen);
}

static void send_name(struct layer *layer, const char *path, const struct facts *facts)
{
    text_string(&layer->names, "", "", path);
    if (facts->links > 1) places_add(&layer->sent, facts->place);
}

static void send_socket(struct layer *layer, const struct directory *directory, const struct child *child)
{
    const struct facts *facts = &child->facts;
    unsigned char list[MOST_ACL_BYTES];
    ssize_t bytes = acl_of(directory->fd, child->name, list);
    char head[96], *path = path_join(directory->path, child->name);

    snprintf(head, sizeof head, "S%o %u %u %lld %u ", facts->mode & 07777, facts->user, facts->group,
             (long long)facts->modified.tv_sec, facts->modified.tv_nsec);
    text_add(&layer->changes, head, strlen(head));
    for (ssize_t i = 0; i < bytes; i++) {
        snprintf(head, sizeof head, "%02x", list[i]);
        text_add(&layer->changes, head, 2);
    }
    text_string(&layer->changes, bytes > 0 ? "" : "-", " ", path);
    free(path);
}

/* The name that was met first of a file with several; NULL when it is this one. */
static const char *first_name(struct layer *layer, const char *path, struct place place)
{
    const char *at = layer->special.bytes, *end = at ? at + layer->special.used : NULL;

    for (; at < end; at += sizeof place + strlen(at + sizeof place) + 1)
        if (memcmp(at, &place, sizeof place) == 0) return at + sizeof place;
    text_add(&layer->special, (const char *)&place, sizeof place);
    text_string(&layer->special, "", "", path);
    return NULL;
}

/* tar makes a file of its own of each name of a pipe or a device, and none of a socket. True when a link is
 * all that is to be made. */
static bool send_link(struct layer *layer, const char *path, const struct facts *facts)
{
    bool plain = S_ISREG(facts->mode) || S_ISLNK(facts->mode) || facts->whiteout;
    const char *first = plain || facts->links == 1 ? NULL : first_name(layer, path, facts->place);

    if (!first) return false;
    text_string(&layer->changes, "L", "", first);
    text_string(&layer->changes, "=", "", path);
    return S_ISSOCK(facts->mode);
}

/* What the directory has by now: all else goes on the other side. */
static void send_list(struct layer *layer, const struct directory *directory)
{
    text_string(&layer->changes, "D", "", directory->path);
    for (size_t i = 0; i < directory->count; i++)
        text_string(&layer->changes, S_ISDIR(directory->children[i].facts.mode) ? "/" : "-", "",
                    directory->children[i].name);
}

/* Large files, that the other side has got in some form, go by the blocks that differ. */
static bool goes_by_blocks(struct layer *layer, const char *path, const struct directory *directory,
                           const struct child *child)
{
    const struct record *record = layer->whole ? NULL : records_find(&layer->records, path);

    return record && S_ISREG(child->facts.mode) &&
           blocks_plan(&layer->patches, record, directory->fd, child->name);
}

/* Whoever takes a file anew touches the directory it is in, whose times must be set again. */
static int tell_directory(void *context, const struct directory *directory)
{
    struct layer *layer = context;
    bool changed = !is_unchanged(layer, directory->path, &directory->facts), touched = changed;
    size_t names = layer->names.used;

    send_name(layer, directory->path, &directory->facts);
    if (changed && !layer->whole) send_list(layer, directory);
    for (size_t i = 0; i < directory->count; i++) {
        const struct child *child = &directory->children[i];
        char *path;

        if (S_ISDIR(child->facts.mode)) continue;
        path = path_join(directory->path, child->name);
        if (send_link(layer, path, &child->facts)) {
            /* Its first name comes before it. */
        } else if (S_ISSOCK(child->facts.mode)) {
            /* No pass of tar had it. */
            send_socket(layer, directory, child);
        } else if (is_unchanged(layer, path, &child->facts)) {
            if (child->facts.links > 1)
                text_add(&layer->linked, (const char *)&child->facts.place, sizeof child->facts.place);
        } else if (!goes_by_blocks(layer, path, directory, child)) {
            touched = true;
            send_name(layer, path, &child->facts);
        }
        free(path);
    }
    if (!touched)
        layer->names.used = names;
    else if (!changed)
        text_string(&layer->changes, "X", "", directory->path);
    return 0;
}

/*
 * Of a file of which a name is sent, all names are: what lay in a directory that was renamed has new names
 * with the old times. Whether there are any that were left out.
 */
static bool suspect_linked(struct layer *layer)
{
    bool found = false;

    for (size_t at = 0; at < layer->linked.used;) {
        struct place place;

        memcpy(&place, layer->linked.bytes + at, sizeof place);
        at += sizeof place;
        if (!places_has(&layer->sent, place)) continue;
        places_add(&layer->suspects, place);
        found = true;
    }
    return found;
}

static int tell_trees(struct layer *layer)
{
    int error = 0;

    /* Each directory is followed by all that is in it. tar sets the times and attributes of one when it comes
     * to something outside. */
    do {
        layer->changes.used = layer->names.used = layer->linked.used = layer->patches.plans.used = 0;
        layer->special.used = 0;
        layer->patches.bytes = 0;
        for (size_t i = 0; error == 0 && i < layer->tree_count; i++) {
            if (layer->whole) text_string(&layer->changes, "D", "", layer->trees[i]);
            error = walk_tree(layer->base, layer->trees[i], false, tell_directory, layer);
        }
    } while (error == 0 && suspect_linked(layer));
    return error;
}

int tell(struct layer *layer, bool whole)
{
    int error;

    take_events(layer);
    if (!whole && writers_in_group(layer->cgroup, true, &layer->suspects) < 0) layer->blind = true;
    layer->whole = whole || layer->watch < 0;
    /* Events hold on to the container's mounts, which are to go. */
    if (layer->watch >= 0) close(layer->watch);
    layer->watch = -1;
    error = tell_trees(layer);
    if (error == 0 && !layer->whole && layer->changes.used > MOST_CHANGES) {
        layer->whole = true;
        error = tell_trees(layer);
    }
    return error;
}
