/*
 * mwarp-guest btf FILE REQUEST...: layout of kernel structures from the kernel's own type information (BTF,
 * Documentation/bpf/btf.rst), which is megabytes. For each request that can be met, lines:
 *
 *   STRUCT:MEMBER,...   "STRUCT BYTES", and for each member, those of nested anonymous structures included, "STRUCT.MEMBER BIT BITS",
 *                       BITS being 0 for all but bit fields; of a structure that has all the members
 *   FUNCTION()          "FUNCTION() ID"
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 8, MAX_STEPS = 16, MAX_MEMBERS = 32, KINDS = 20 };
/* Not in older headers. */
enum { KIND_DECL_TAG = 17, KIND_TYPE_TAG = 18, KIND_ENUM64 = 19 };

static const struct btf_type **types;
static uint32_t count;
static const char *strings;
static uint32_t string_bytes;

static const char *string(uint32_t at)
{
    return at < string_bytes ? strings + at : "";
}

/* Bytes that follow a type's head, by its kind; negative for one that is not known. */
static long beyond_head(const struct btf_type *type)
{
    static const uint8_t fixed[KINDS] = {
        [BTF_KIND_INT] = 4, [BTF_KIND_ARRAY] = 12, [BTF_KIND_VAR] = 4, [KIND_DECL_TAG] = 4};
    static const uint8_t each[KINDS] = {
        [BTF_KIND_STRUCT] = 12,    [BTF_KIND_UNION] = 12,   [BTF_KIND_ENUM] = 8,
        [BTF_KIND_FUNC_PROTO] = 8, [BTF_KIND_DATASEC] = 12, [KIND_ENUM64] = 12,
    };
    uint32_t kind = BTF_INFO_KIND(type->info);

    return kind == 0 || kind >= KINDS ? -1 : fixed[kind] + (long)each[kind] * BTF_INFO_VLEN(type->info);
}

static int index_types(const uint8_t *at, const uint8_t *end)
{
    types = calloc((size_t)(end - at) / sizeof(struct btf_type) + 1, sizeof(struct btf_type *));
    if (!types) return -ENOMEM;
    for (count = 1; at + sizeof(struct btf_type) <= end; count++) {
        const struct btf_type *type = (const void *)at;
        long more = beyond_head(type);

        if (more < 0 || at + sizeof *type + more > end) return -EPROTO;
        types[count] = type;
        at += sizeof *type + more;
    }
    return at == end ? 0 : -EPROTO;
}

/* The whole file as it was mapped; its length says where the kernel's ends. */
static int open_types(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t room = 1 << 16, used = 0;
    uint8_t *bytes = malloc(room);
    const struct btf_header *head;
    ssize_t got;

    if (fd < 0 || !bytes) return fd < 0 ? -errno : -ENOMEM;
    while ((got = read(fd, bytes + used, room - used)) > 0) {
        used += (size_t)got;
        if (used == room) bytes = realloc(bytes, room *= 2);
        if (!bytes) return -ENOMEM;
    }
    close(fd);
    head = (const void *)bytes;
    if (got < 0 || used < sizeof *head || head->magic != BTF_MAGIC || head->hdr_len > used) return -EPROTO;
    if ((uint64_t)head->hdr_len + head->type_off + head->type_len > used) return -EPROTO;
    if ((uint64_t)head->hdr_len + head->str_off + head->str_len > used || head->str_len == 0) return -EPROTO;
    strings = (const char *)bytes + head->hdr_len + head->str_off;
    string_bytes = head->str_len;
    if (strings[string_bytes - 1] != 0) return -EPROTO;
    bytes += head->hdr_len + head->type_off;
    return index_types(bytes, bytes + head->type_len);
}

static const struct btf_type *composite(uint32_t id)
{
    for (int step = 0; step < MAX_STEPS && id > 0 && id < count; step++) {
        switch (BTF_INFO_KIND(types[id]->info)) {
        case BTF_KIND_STRUCT:
        case BTF_KIND_UNION:
            return types[id];
        case BTF_KIND_TYPEDEF:
        case BTF_KIND_VOLATILE:
        case BTF_KIND_CONST:
        case BTF_KIND_RESTRICT:
        case KIND_TYPE_TAG:
            id = types[id]->type;
            break;
        default:
            return NULL;
        }
    }
    return NULL;
}

struct place {
    uint32_t bit, bits;
};

static bool find_member(const struct btf_type *type, const char *name, int depth, struct place *place)
{
    const struct btf_member *members = (const void *)(type + 1);
    bool fields = BTF_INFO_KFLAG(type->info);

    for (uint32_t i = 0; i < BTF_INFO_VLEN(type->info) && depth < MAX_DEPTH; i++) {
        uint32_t bit = fields ? BTF_MEMBER_BIT_OFFSET(members[i].offset) : members[i].offset;
        const char *own = string(members[i].name_off);
        const struct btf_type *nested;

        if (strcmp(own, name) == 0) {
            *place = (struct place){bit, fields ? BTF_MEMBER_BITFIELD_SIZE(members[i].offset) : 0};
            return true;
        }
        nested = *own ? NULL : composite(members[i].type);
        if (nested && find_member(nested, name, depth + 1, place)) {
            place->bit += bit;
            return true;
        }
    }
    return false;
}

/* A few names exist twice in a kernel: the structure that has all the members is meant. */
static void answer_structure(const char *name, char *const *members, size_t wanted)
{
    for (uint32_t id = 1; id < count; id++) {
        struct place places[MAX_MEMBERS];
        size_t found = 0;

        if (BTF_INFO_KIND(types[id]->info) != BTF_KIND_STRUCT ||
            strcmp(string(types[id]->name_off), name) != 0)
            continue;
        while (found < wanted && find_member(types[id], members[found], 0, &places[found])) found++;
        if (found < wanted) continue;
        printf("%s %u\n", name, types[id]->size);
        for (size_t i = 0; i < wanted; i++)
            printf("%s.%s %u %u\n", name, members[i], places[i].bit, places[i].bits);
        return;
    }
}

static void answer_function(const char *name)
{
    for (uint32_t id = 1; id < count; id++)
        if (BTF_INFO_KIND(types[id]->info) == BTF_KIND_FUNC &&
            strcmp(string(types[id]->name_off), name) == 0) {
            printf("%s() %u\n", name, id);
            return;
        }
}

static int answer(char *request)
{
    char *members[MAX_MEMBERS], *rest = strpbrk(request, ":(");
    size_t wanted = 0;

    if (!rest) return -EINVAL;
    if (*rest == '(') {
        *rest = 0;
        answer_function(request);
        return 0;
    }
    *rest++ = 0;
    for (char *member; (member = strsep(&rest, ",")) != NULL;) {
        if (wanted == MAX_MEMBERS || !*member) return -EINVAL;
        members[wanted++] = member;
    }
    answer_structure(request, members, wanted);
    return 0;
}

int btf_main(int argc, char **argv)
{
    int error = argc < 1 ? -EINVAL : open_types(argv[0]);

    for (int i = 1; i < argc && error == 0; i++) error = answer(argv[i]);
    if (error < 0) fprintf(stderr, "mwarp-guest btf: %s\n", strerror(-error));
    return error < 0 ? 1 : 0;
}
