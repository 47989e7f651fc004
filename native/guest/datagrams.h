/* Datagrams that a UDP socket has received and nobody has read. CRIU drops them. */
#ifndef MWARP_DATAGRAMS_H
#define MWARP_DATAGRAMS_H

#include "loose.h"

/* `length` bytes follow. */
struct datagram {
    struct ends ends;
    uint32_t length;
};

/*
 * Those of a task's descriptor, which keeps them, as records one after the other into a file: their bytes, or a negative errno. While they are
 * looked at, the socket is set to tell more than its owner asked for; by a process of its own, which takes that back whatever becomes of
 * the helper.
 */
int64_t peek_datagrams(pid_t pid, int fd, int file);

/* Hands them in. The container's fence is shut. The number of them, or a negative errno. */
int64_t deliver_datagrams(const struct link_place *place, const uint8_t *records, size_t length);

#endif
