/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MWARP_TEST_RACES_H
#define MWARP_TEST_RACES_H

#include "kmod.h"

/* One huge page and a half is counted; the rest is for those who destroy what is in it. */
enum { RACE_PAGES = 1024, COUNTED_PAGES = 768 };

/* Shared by all racers. The first word of a page is its name, the second a counter, the last its name again.
 */
struct race {
    struct files files;
    double end;
    /* Whether contents are exchanged, too: whoever reads a page meanwhile may find half of either. */
    bool contents;
    uint64_t written; /* increments, by all */
    uint64_t calls;
    uint64_t exchanged; /* pages */
    uint64_t left;
    uint64_t taken_back; /* calls that were to exchange all or nothing, and could not */
};

typedef void racer(struct race *race);

bool race_goes_on(const struct race *race);
uint32_t race_random(uint32_t *state, uint32_t below);

racer race_exchange, race_exchange_tables, race_write, race_read, race_fork, race_lock, race_remap, race_pipe,
    race_peek, race_uring, race_punch, race_truncate, race_page_out, race_compact, race_collapse,
    race_reclaim;

#endif
