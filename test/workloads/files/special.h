/* Files that a program has open, mapped or bound throughout (special.c), and what of files.c makes them. */
#pragma once
#include "known.h"

/* The directory that they are in. */
extern char special[NAME_ROOM];

void make_special(const char *top);
/* By the descriptor and the mapping that are there from the beginning. */
void append(void);
void write_mapped(void);
/* Whether what has no name, and who listens at one, are still there. Returns what is wrong, which it says. */
int compare_open(void);

/* files.c: a number below the limit; bytes that nobody guesses; a socket at which nobody listens. */
uint64_t draw(uint64_t limit);
void fill(int fd, off_t at, size_t count);
void make_socket(const char *path);
