/*
 * Files that may change without a trace in their times.
 *
 * A page of tmpfs that is mapped shared is written without the kernel's knowing: it updates the times of the
 * file in the fault of the first write, and in none where the page was read first, since what a read of a
 * writable shared mapping maps can be written at once (mm/mmap.c, vma_wants_writenotify: tmpfs has no
 * page_mkwrite and nothing to write back). Another file system loses track in the same way between two
 * write-backs. To map a file so takes a descriptor that is open for writing. So a file is known to be as it
 * was, when its times are, if nobody had it mapped or open for writing when it was first looked at, and
 * nobody has when the container stands still, and nobody has closed such a descriptor in between, which
 * fanotify(7) tells. The event comes when the last of descriptors and mappings that are one open file is
 * gone; from an overlay, which maps the file below in its place, when the last descriptor is. One that lies
 * in the queue of a socket is open and in nobody's table: where there is such a queue in the end, nothing is
 * known.
 */
#include "layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Of looks at a group whose tasks fork faster than they can be looked at. */
#define MOST_ROUNDS 20

int writers_watch(const char *const *file_systems, size_t count)
{
    /* Unlimited: an event that is left out would be a file that is lost. */
    unsigned flags = FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE;
    int watch = fanotify_init(flags, O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NOATIME);

    if (watch < 0) return -errno;
    for (size_t i = 0; i < count; i++) {
        /* Of the whole file system: mounts of it in the container's mount namespace, and those it makes
         * itself. */
        if (fanotify_mark(watch, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_CLOSE_WRITE, AT_FDCWD,
                          file_systems[i]) == 0)
            continue;
        int error = -errno;

        close(watch);
        return error;
    }
    return watch;
}

static int take_event(const struct fanotify_event_metadata *event, struct places *places)
{
    struct stat status;
    int error = 0;

    if (event->vers != FANOTIFY_METADATA_VERSION) return -EPROTO;
    if ((event->mask & FAN_Q_OVERFLOW) || event->fd < 0) return -EOVERFLOW;
    if (fstat(event->fd, &status) == 0)
        places_add(places, (struct place){status.st_dev, status.st_ino});
    else
        error = -errno;
    close(event->fd);
    return error;
}

int writers_closed(int watch, struct places *places)
{
    _Alignas(struct fanotify_event_metadata) char buffer[4096];
    int error = 0;

    for (;;) {
        ssize_t bytes = read(watch, buffer, sizeof buffer);
        struct fanotify_event_metadata *event = (void *)buffer;

        if (bytes < 0 && errno == EINTR) continue;
        if (bytes < 0 && errno == EAGAIN) return error;
        /* The event of a file that cannot be opened is lost (fanotify(7)). */
        if (bytes <= 0) return -EOVERFLOW;
        for (; FAN_EVENT_OK(event, bytes); event = FAN_EVENT_NEXT(event, bytes)) {
            int failure = take_event(event, places);

            if (failure < 0) error = failure;
        }
    }
}

/* Whether descriptors wait in the queue of a socket (net/unix/af_unix.c, unix_show_fdinfo). */
static bool carries_descriptors(int pid, const char *fd)
{
    char path[64], line[128], protocol[16];
    unsigned carried = 0;
    FILE *info;

    snprintf(path, sizeof path, "/proc/%d/fd/%.12s", pid, fd);
    /* Most sockets are of other kinds, and a container may have thousands. */
    if (getxattr(path, "system.sockprotoname", protocol, sizeof protocol) < 4 ||
        strncmp(protocol, "UNIX", 4) != 0)
        return false;
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%.12s", pid, fd);
    info = fopen(path, "re");
    if (!info) return false;
    while (carried == 0 && fgets(line, sizeof line, info))
        if (sscanf(line, "scm_fds: %u", &carried) != 1) carried = 0;
    fclose(info);
    return carried > 0;
}

/*
 * Descriptors that are open for writing: the links of others have no permission to write (fs/proc/fd.c).
 * False when a socket among them carries others.
 */
static bool add_descriptors(int pid, bool still, struct places *places)
{
    bool known = true;
    char path[64];
    const struct dirent *entry;
    DIR *list;

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    list = opendir(path);
    if (!list) return true;
    while ((entry = readdir(list))) {
        struct stat status;

        if (fstatat(dirfd(list), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
            !(status.st_mode & S_IWUSR))
            continue;
        if (fstatat(dirfd(list), entry->d_name, &status, 0) < 0) continue;
        if (S_ISREG(status.st_mode)) places_add(places, (struct place){status.st_dev, status.st_ino});
        if (still && S_ISSOCK(status.st_mode) && carries_descriptors(pid, entry->d_name)) known = false;
    }
    closedir(list);
    return known;
}

/* Shared mappings, also of those that only read now: mprotect(2) may have made that of them. */
static void add_mappings(int pid, struct places *places)
{
    char *line = NULL, path[64], modes[8];
    unsigned major, minor;
    unsigned long inode;
    size_t room = 0;
    FILE *maps;

    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    maps = fopen(path, "re");
    if (!maps) return;
    while (getline(&line, &room, maps) > 0)
        if (sscanf(line, "%*x-%*x %7s %*x %x:%x %lu", modes, &major, &minor, &inode) == 4 && modes[3] == 's')
            places_add(places, (struct place){makedev(major, minor), inode});
    free(line);
    fclose(maps);
}

/*
 * Tasks come and go. Whatever a task had that ended before it was looked at, it wrote before that; what its
 * children have of it they show themselves. So it is enough that in the end no task is there that was not
 * looked at.
 */
int writers_in_group(const char *cgroup, bool still, struct places *places)
{
    char path[PATH_MAX];
    struct places seen = {0};
    bool fresh = true, known = true;

    snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
    for (int round = 0; fresh && round < MOST_ROUNDS; round++) {
        FILE *tasks = fopen(path, "re");
        int pid;

        if (!tasks) break;
        fresh = false;
        while (fscanf(tasks, "%d", &pid) == 1) {
            struct place task = {.inode = (uint64_t)pid};

            if (places_has(&seen, task)) continue;
            fresh = true;
            places_add(&seen, task);
            if (!add_descriptors(pid, still, places)) known = false;
            add_mappings(pid, places);
        }
        fclose(tasks);
    }
    free(seen.slots);
    return fresh || !known ? -EAGAIN : 0;
}
