/* TCP connections that no task has a descriptor of, made anew (src/protocol/loose-connection.ts says which). */
#ifndef MWARP_LOOSE_H
#define MWARP_LOOSE_H

#include "packets.h"

enum loose_kind { LOOSE_WAITING, LOOSE_OPENING, LOOSE_CLOSED, LOOSE_ANSWERED };
enum { LOOSE_SCALES = 1, LOOSE_SACK = 2, LOOSE_TIMESTAMPS = 4, LOOSE_ENDED = 8 };

/* As it travels from the agent, in this machine's byte order. */
struct loose {
    struct ends ends;
    uint32_t from_peer, to_peer;
    uint16_t mss;
    uint8_t send_scale, receive_scale, flags, kind;
    /* At most so much of what it has received goes into one segment. */
    uint16_t piece;
    uint32_t our_timestamp, peers_timestamp;
    uint32_t window, most_window, window_updated, own_window, own_window_told;
    uint32_t received, outgoing, unsent;
};

/* Where a container's link is. */
struct link_place {
    const char *netns, *device, *veth;
    uint8_t mac[6];
};

/*
 * admit.c: puts those that wait into their listeners' queues, with what they have received, and those that have answered as far as there is
 * room, and has the kernel know those of which the last segment of the handshake may still come. `bytes`: what all have received and not sent, one after the other.
 * Nothing of it may reach the network: the container's fence is shut. 0 or a negative errno.
 */
int admit(const struct link_place *place, uint32_t kfunc, const struct loose *loose, size_t count,
          const uint8_t *bytes, size_t length);

/*
 * reopen.c: opens the fence as fence_open does, has those that were closed go on to send, and asks the peers of those that are being opened
 * for their last word. Answers with the number of those that could not be made (they are there already where this was done before), or
 * a negative errno when the fence is shut, or none was tried.
 */
int64_t reopen(const struct link_place *place, const char *bridge, const struct loose *loose, size_t count,
               const uint8_t *bytes, size_t length);
/* Whether reopen could make them, while there is a way back: 0 or a negative errno. Leaves nothing behind. */
int64_t try_reopen(const struct link_place *place, const struct loose *loose, size_t count,
                   const uint8_t *bytes, size_t length);

#endif
