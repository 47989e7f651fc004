/*
 * All workloads in one program, which is the one by whose name it is started: a root file system with them is sent to every VM of every
 * test's lab, and each by itself is for the most part the C library.
 */
#include <stdio.h>
#include <string.h>

/* PROGRAMS comes from the Makefile: PROGRAM(name, symbol) for each of the other files. */
#define PROGRAM(name, symbol) int main_of_##symbol(int argc, char **argv);
PROGRAMS
#undef PROGRAM

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
} programs[] = {
#define PROGRAM(name, symbol) {#name, main_of_##symbol},
    PROGRAMS
#undef PROGRAM
};

int main(int argc, char **argv)
{
    const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;

    name = name ? name + 1 : argc > 0 ? argv[0] : "";
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        if (strcmp(programs[i].name, name) == 0) return programs[i].main(argc, argv);
    fprintf(stderr, "%s is no workload\n", name);
    return 2;
}
