/*
 * Which mapping of which task gets which staged memory, by the images (src/criu/hand-over.ts):
 *
 *   task PID PARENT PHASE
 *   vma PLACE PAGES STAGE OFFSET    ascending
 *   keep PAGE PAGES                 what of it was faulted in and is wanted, from the start of the mapping; ascending
 */
#include "handover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define LIST "mwarp-handover"

/* Grows by doubling; none of it is ever freed. */
struct list {
    void *items;
    size_t count, room;
};

static struct list tasks, mappings, keeps;

static void *append(struct list *list, size_t size)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        void *items = reallocarray(list->items, room, size);

        if (!items) return NULL;
        list->items = items;
        list->room = room;
    }
    return (char *)list->items + list->count++ * size;
}

static struct task *last_task(void)
{
    return tasks.count > 0 ? (struct task *)tasks.items + tasks.count - 1 : NULL;
}

static struct mapping *last_mapping(void)
{
    return mappings.count > 0 ? (struct mapping *)mappings.items + mappings.count - 1 : NULL;
}

static int add_mapping(uint64_t place, uint64_t pages, int stage, uint64_t offset)
{
    const struct stage *source = stage_of(stage);
    struct mapping *mapping;

    if (!last_task()) return -EINVAL;
    if (source && (source->pid != last_task()->pid || source->pages < pages || offset > source->pages - pages))
        return -EINVAL;
    mapping = append(&mappings, sizeof *mapping);
    if (!mapping) return -ENOMEM;
    *mapping = (struct mapping){
        .place = place, .pages = pages, .stage = stage, .offset = offset, .first_keep = keeps.count};
    last_task()->mappings++;
    return 0;
}

static int add_keep(uint64_t page, uint64_t pages)
{
    struct mapping *mapping = last_mapping();
    struct run *keep;

    if (!mapping || pages > mapping->pages || page > mapping->pages - pages) return -EINVAL;
    keep = append(&keeps, sizeof *keep);
    if (!keep) return -ENOMEM;
    *keep = (struct run){page, pages};
    mapping->keeps++;
    return 0;
}

static int parse_line(const char *line)
{
    unsigned long long a, b, c;
    int pid, parent, stage;

    if (sscanf(line, "task %d %d %llu", &pid, &parent, &a) == 3) {
        struct task *task = append(&tasks, sizeof *task);

        if (!task) return -ENOMEM;
        *task = (struct task){
            .pid = pid, .parent = parent, .phase = a % HUGE_PAGES, .first_mapping = mappings.count};
        return 0;
    }
    if (sscanf(line, "vma %llu %llu %d %llu", &a, &b, &stage, &c) == 4) return add_mapping(a, b, stage, c);
    if (sscanf(line, "keep %llu %llu", &a, &b) == 2) return add_keep(a, b);
    return -EINVAL;
}

int plan_read(const char *images)
{
    char path[4096], line[256];
    int error = 0;
    FILE *file;

    if (snprintf(path, sizeof path, "%s/" LIST, images) >= (int)sizeof path) return -ENAMETOOLONG;
    file = fopen(path, "re");
    if (!file) return -errno;
    while (error == 0 && fgets(line, sizeof line, file)) error = parse_line(line);
    fclose(file);
    if (error < 0) tasks.count = mappings.count = keeps.count = 0;
    return error;
}

const struct task *plan_task(pid_t pid)
{
    for (size_t i = 0; i < tasks.count; i++) {
        const struct task *task = (struct task *)tasks.items + i;

        if (task->pid == pid) return task;
    }
    return NULL;
}

struct mapping *plan_mappings(const struct task *task)
{
    return (struct mapping *)mappings.items + task->first_mapping;
}

const struct run *plan_keeps(const struct mapping *mapping) { return (struct run *)keeps.items + mapping->first_keep; }

/* Parents come before their children in the images, but what is in a file may go round in circles. */
bool plan_descends(pid_t pid, pid_t ancestor)
{
    for (size_t i = 0; i <= tasks.count; i++) {
        const struct task *task = plan_task(pid);

        if (pid == ancestor) return true;
        if (!task) return false;
        pid = task->parent;
    }
    return false;
}

/* Of one stage, what lies between the runs that are kept; false when none is. Out of order, too much is kept, or given back. */
static bool trim(int index)
{
    const struct stage *stage = stage_of(index);
    uint64_t done = 0;
    bool used = false;

    for (size_t i = 0; i < mappings.count; i++) {
        const struct mapping *mapping = (struct mapping *)mappings.items + i;
        const struct run *keep = plan_keeps(mapping);

        if (mapping->stage != index) continue;
        for (size_t k = 0; k < mapping->keeps; k++) {
            uint64_t page = mapping->offset + keep[k].page;

            if (page > done) madvise(stage->at + done * PAGE, (page - done) * PAGE, MADV_DONTNEED);
            if (page + keep[k].pages > done) done = page + keep[k].pages;
            used = true;
        }
    }
    if (stage->pages > done) madvise(stage->at + done * PAGE, (stage->pages - done) * PAGE, MADV_DONTNEED);
    return used;
}

void plan_trim(void)
{
    for (int i = 0; i < MAX_STAGES; i++)
        if (stage_of(i) && (!plan_task(stage_of(i)->pid) || !trim(i))) stage_release(i);
}
