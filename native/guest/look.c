/*
 * mwarp-guest layer-look DIRECTORY TREE...: how much a container's files take, and what of them could not be
 * moved. Lines on stdout: "BYTES FILES", then a reason each, with the file's name.
 */
#include "layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* More of one kind say nothing new. */
#define MOST_REASONS 8

struct look {
    uint64_t bytes, files;
    int reasons;
    /* Files with several names take their room once. */
    struct places linked;
};

static int look_in(void *context, const struct directory *directory)
{
    struct look *look = context;

    look->bytes += directory->facts.bytes;
    for (size_t i = 0; i < directory->count; i++) {
        const struct facts *facts = &directory->children[i].facts;

        look->files++;
        if (!S_ISDIR(facts->mode) && (facts->links == 1 || !places_has(&look->linked, facts->place)))
            look->bytes += facts->bytes;
        if (!S_ISDIR(facts->mode) && facts->links > 1) places_add(&look->linked, facts->place);
        /* tar does not carry these, and what has them could not be cleared away. */
        if ((facts->attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) &&
            look->reasons++ < MOST_REASONS)
            printf("%s/%s cannot be changed or only be appended to (chattr +i, +a)\n", directory->path,
                   directory->children[i].name);
    }
    return 0;
}

int layer_look_main(int argc, char **argv)
{
    struct look look = {0};
    int base, error = 0;

    if (argc < 2) return 2;
    base = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 1; error == 0 && base >= 0 && i < argc; i++) {
        error = walk_tree(base, argv[i], true, look_in, &look);
        if (error != -ENAMETOOLONG) continue;
        printf("%s has a path of more than %d bytes\n", argv[i], LONGEST_PATH);
        error = 0;
    }
    printf("%llu %llu\n", (unsigned long long)look.bytes, (unsigned long long)look.files);
    return base < 0 || error < 0;
}
