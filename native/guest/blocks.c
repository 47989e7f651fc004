/*
 * Of files that the other side has from a first pass, and that may have changed since, the blocks that
 * differ: a database of which one page was written does not go a second time. What differs is found by what
 * the other side says that it has (digest.c), so nothing depends on which file it was that had the name
 * during the first pass.
 */
#include "layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Smaller files are sent as a whole. So are those with more holes than this: there would be more digests than
 * data. */
#define LEAST_BYTES    BLOCK_BYTES
#define MOST_EMPTINESS 8

static bool is_candidate(const struct records *records, const struct record *record)
{
    const struct facts *facts = &record->facts;

    return S_ISREG(facts->mode) && facts->links == 1 && facts->bytes >= LEAST_BYTES &&
           facts->size / MOST_EMPTINESS <= facts->bytes && records_find(records, record->path) == record;
}

void blocks_candidates(const struct records *records, struct text *names)
{
    for (const struct record *record = records->first; record; record = record->following)
        if (is_candidate(records, record)) text_string(names, "", "", record->path);
}

int blocks_know(struct records *records, const char *bytes, size_t count)
{
    const char *end = bytes + count;

    for (struct record *record = records->first; record; record = record->following) {
        const struct digest_head *head = (const void *)bytes;

        if (!is_candidate(records, record)) continue;
        if ((size_t)(end - bytes) < sizeof *head) return -EPROTO;
        bytes += sizeof *head;
        if (head->digests > (size_t)(end - bytes) / sizeof(struct digest)) return -EPROTO;
        bytes += head->digests * sizeof(struct digest);
        if (head->digests > 0 && head->digests == block_count(head->size)) record->there = head;
    }
    return bytes == end ? 0 : -EPROTO;
}

/* What is planned of one file; it is followed by struct block_head, one for each block. */
struct plan {
    const struct record *record;
    struct patch_head head;
};

static int plan_blocks(int fd, const struct digest_head *there, struct plan *plan, struct text *heads,
                       uint64_t *bytes)
{
    static struct block block;
    const struct digest *digests = (const void *)(there + 1);

    for (uint64_t i = 0; i < block_count(plan->head.size); i++) {
        struct block_head head = {.at = i * BLOCK_BYTES};
        struct digest digest;
        int error = read_block(fd, head.at, plan->head.size, &block);

        if (error < 0) return error;
        digest = digest_of(&block);
        if (i < there->digests ? memcmp(&digest, digests + i, sizeof digest) == 0 : block.pages == 0)
            continue;
        head.bytes = block.bytes;
        head.pages = block.pages;
        text_add(heads, (const char *)&head, sizeof head);
        plan->head.blocks++;
        *bytes += sizeof head;
        for (unsigned page = 0; page < BLOCK_PAGES; page++)
            if (block.pages & (1U << page)) *bytes += page_bytes(&block, page);
    }
    return 0;
}

bool blocks_plan(struct patches *patches, const struct record *record, int directory, const char *name)
{
    const struct digest_head *there = record->there;
    struct text heads = {0};
    struct stat status;
    int fd = there ? open_plain(directory, name, O_RDONLY, &status) : -EINVAL, error;
    struct plan plan = {.record = record};
    uint64_t bytes;

    if (fd < 0) return false;
    plan.head = (struct patch_head){.size = (uint64_t)status.st_size,
                                    .seconds = status.st_mtim.tv_sec,
                                    .nanoseconds = (uint32_t)status.st_mtim.tv_nsec,
                                    .path_bytes = (uint32_t)strlen(record->path)};
    bytes = sizeof plan.head + plan.head.path_bytes;
    error = status.st_mode != there->mode || status.st_uid != there->user || status.st_gid != there->group
                ? -EINVAL
                : plan_blocks(fd, there, &plan, &heads, &bytes);
    close(fd);
    if (error == 0) {
        text_add(&patches->plans, (const char *)&plan, sizeof plan);
        text_add(&patches->plans, heads.bytes, heads.used);
        patches->bytes += bytes;
    }
    free(heads.bytes);
    return error == 0;
}

static int send_block(int fd, const struct block_head *head, uint64_t size)
{
    static struct block block;
    int error = read_block(fd, head->at, size, &block);

    if (error == 0 && (block.bytes != head->bytes || block.pages != head->pages)) error = -ESTALE;
    if (error == 0) error = write_all(STDOUT_FILENO, head, sizeof *head);
    for (unsigned page = 0; error == 0 && page < BLOCK_PAGES; page++)
        if (block.pages & (1U << page))
            error = write_all(STDOUT_FILENO, block.data[page], page_bytes(&block, page));
    return error;
}

static int send_patch(int base, const struct plan *plan, const char *heads)
{
    char *path = strdup(plan->record->path);
    struct stat status;
    int fd = path ? open_plain_below(base, path, O_RDONLY, &status) : -ENOMEM;
    int error = fd < 0 ? fd : write_all(STDOUT_FILENO, &plan->head, sizeof plan->head);

    if (error == 0) error = write_all(STDOUT_FILENO, plan->record->path, plan->head.path_bytes);
    for (uint64_t i = 0; error == 0 && i < plan->head.blocks; i++) {
        struct block_head head;

        memcpy(&head, heads + i * sizeof head, sizeof head);
        error = send_block(fd, &head, plan->head.size);
    }
    if (fd >= 0) close(fd);
    free(path);
    return error;
}

int blocks_send(int base, const struct patches *patches)
{
    int error = 0;

    for (size_t at = 0; error == 0 && at < patches->plans.used;) {
        struct plan plan;

        memcpy(&plan, patches->plans.bytes + at, sizeof plan);
        at += sizeof plan;
        error = send_patch(base, &plan, patches->plans.bytes + at);
        at += plan.head.blocks * sizeof(struct block_head);
    }
    return error;
}
