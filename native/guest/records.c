/* What is remembered of the files of a container, by their paths. */
#include "layer.h"

#include <string.h>

static size_t bucket_of(const char *path, size_t length)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)path[i]) * 16777619u;
    return (hash ^ (hash >> 16)) % RECORD_BUCKETS;
}

struct record *records_add(struct records *records, const char *path, const struct facts *facts)
{
    size_t length = strlen(path);
    struct record **bucket = &records->buckets[bucket_of(path, length)];
    struct record *record = must_allocate(NULL, sizeof *record + length + 1);

    *record =
        (struct record){.next = *bucket, .following = records->first, .facts = *facts, .seen = facts->place};
    memcpy(record->path, path, length + 1);
    *bucket = records->first = record;
    return record;
}

static struct record *find(const struct records *records, const char *path, size_t length)
{
    struct record *record = records->buckets[bucket_of(path, length)];

    while (record && (strncmp(record->path, path, length) != 0 || record->path[length] != '\0'))
        record = record->next;
    return record;
}

struct record *records_find(const struct records *records, const char *path)
{
    return find(records, path, strlen(path));
}

struct record *records_above(const struct records *records, const struct record *record)
{
    const char *slash = strrchr(record->path, '/');

    return slash ? find(records, record->path, (size_t)(slash - record->path)) : NULL;
}
