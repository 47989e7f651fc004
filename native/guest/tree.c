/* Walks a tree that belongs to a container, which may do with it what it likes while it runs. */
#include "layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Directories that are still to be visited, the last one first. */
struct stack {
    char **paths;
    size_t count, room;
};

static void push(struct stack *stack, char *path)
{
    if (stack->count == stack->room) {
        stack->room = stack->room == 0 ? 64 : 2 * stack->room;
        stack->paths = must_allocate(stack->paths, stack->room * sizeof *stack->paths);
    }
    stack->paths[stack->count++] = path;
}

int open_below(int base, const char *path)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    long fd = syscall(SYS_openat2, base, path, &how, sizeof how);

    return fd < 0 ? -errno : (int)fd;
}

int look_at(int directory, const char *name, struct facts *facts)
{
    struct statx status;

    if (statx(directory, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS,
              &status) < 0)
        return -errno;
    *facts = (struct facts){
        .place = {makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino},
        .changed = status.stx_ctime,
        .modified = status.stx_mtime,
        .size = status.stx_size,
        .bytes = status.stx_blocks * 512,
        .attributes = status.stx_attributes,
        .mode = status.stx_mode,
        .links = status.stx_nlink,
        .user = status.stx_uid,
        .group = status.stx_gid,
        .whiteout = S_ISCHR(status.stx_mode) && status.stx_rdev_major == 0 && status.stx_rdev_minor == 0,
    };
    return 0;
}

void path_in(char path[PATH_IN_ROOM], int directory, const char *name)
{
    snprintf(path, PATH_IN_ROOM, "/proc/self/fd/%d/%s", directory, name);
}

ssize_t acl_of(int directory, const char *name, unsigned char list[MOST_ACL_BYTES])
{
    char path[PATH_IN_ROOM];
    ssize_t bytes;

    path_in(path, directory, name);
    bytes = lgetxattr(path, ACL_ATTRIBUTE, list, MOST_ACL_BYTES);
    return bytes < 0 ? 0 : bytes;
}

/* Whether the tree, or a part of it, was taken away or replaced under the walk's feet. */
static bool has_vanished(int error)
{
    return error == -ENOENT || error == -ENOTDIR || error == -ELOOP || error == -ESTALE;
}

static void forget_children(struct directory *directory)
{
    for (size_t i = 0; i < directory->count; i++) free((char *)directory->children[i].name);
    free(directory->children);
}

/* Takes `directory->fd` with it: readdir(3) wants to own what it reads. */
static int read_children(struct directory *directory, bool live)
{
    const struct dirent *entry;
    size_t room = 0;
    int copy = dup(directory->fd), error = 0;
    DIR *list = copy < 0 ? NULL : fdopendir(copy);

    if (!list) return -errno;
    while (error == 0 && (errno = 0, entry = readdir(list))) {
        struct child child;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        error = look_at(directory->fd, entry->d_name, &child.facts);
        if (live && has_vanished(error)) {
            error = 0;
            continue;
        }
        if (error == 0 && strlen(directory->path) + 1 + strlen(entry->d_name) > LONGEST_PATH)
            error = -ENAMETOOLONG;
        if (error < 0) break;
        if (directory->count == room) {
            room = room == 0 ? 32 : 2 * room;
            directory->children = must_allocate(directory->children, room * sizeof *directory->children);
        }
        child.name = strcpy(must_allocate(NULL, strlen(entry->d_name) + 1), entry->d_name);
        directory->children[directory->count++] = child;
    }
    if (error == 0 && errno != 0 && !live) error = -errno;
    closedir(list);
    return error;
}

static int walk_directory(int base, const char *path, bool live, struct stack *stack, visit_directory *visit,
                          void *context)
{
    struct directory directory = {.path = path, .fd = open_below(base, path)};
    int error = directory.fd < 0 ? directory.fd : look_at(directory.fd, "", &directory.facts);

    if (error == 0) error = read_children(&directory, live);
    if (error == 0)
        error = visit(context, &directory);
    else if (live && has_vanished(error))
        error = 0;
    for (size_t i = 0; error == 0 && i < directory.count; i++)
        if (S_ISDIR(directory.children[i].facts.mode))
            push(stack, path_join(path, directory.children[i].name));
    forget_children(&directory);
    if (directory.fd >= 0) close(directory.fd);
    return error;
}

int walk_tree(int base, const char *top, bool live, visit_directory *visit, void *context)
{
    struct stack stack = {0};
    int error = 0;

    push(&stack, strcpy(must_allocate(NULL, strlen(top) + 1), top));
    while (stack.count > 0) {
        char *path = stack.paths[--stack.count];

        if (error == 0) error = walk_directory(base, path, live, &stack, visit, context);
        free(path);
    }
    free(stack.paths);
    return error;
}
