/* Packets that are handed to a container as if its peers had sent them, by the other end of its link. */
#ifndef MWARP_PACKETS_H
#define MWARP_PACKETS_H

#include "guest.h"

/* Both ends of what a packet belongs to; ports in this machine's byte order. */
struct ends {
    /* 4 or 6: of the 16 bytes of an address the first 4 count, or all. */
    uint32_t family;
    uint8_t address[16], peer[16];
    uint16_t port, peer_port;
};

/* How packets get in: a packet socket, the interface, and the container's hardware address. */
struct entrance {
    int fd, interface;
    uint8_t mac[6];
};

/* Answers 0 or a negative errno; `leave` takes what came of it either way. */
int entrance_open(struct entrance *entrance, const char *veth, const uint8_t mac[6]);
void entrance_close(struct entrance *entrance);

enum { FLAG_FIN = 1, FLAG_PUSH = 8, FLAG_ACK = 16 };

struct segment {
    uint32_t sequence, acknowledged;
    uint16_t window;
    uint8_t flags;
};

#define SEGMENT_BYTES 64000

/* Of at most SEGMENT_BYTES: what is too long for a frame is cut by the kernel. */
int send_segment(const struct entrance *entrance, const struct ends *ends, const struct segment *segment,
                 const void *bytes, size_t length);

/*
 * Asks the peer of a connection for the last acknowledgement that it sent, as a connection does that has been idle (RFC 9293, 3.8.4): one
 * that still waits for the connection to be made takes no notice. In the container's network namespace, outwards.
 */
int ask_peer(const struct ends *ends, uint32_t sequence, uint32_t acknowledged);

/* A UDP datagram of any length. */
int send_datagram(const struct entrance *entrance, const struct ends *ends, const void *bytes, size_t length);

/*
 * Nobody answers while a fence is shut. Without ARP nobody is asked, and when it comes back the kernel forgets what it knew of its
 * neighbours: no packet waits for an answer when the fence opens. In the interface's network namespace.
 */
int set_arp(const char *device, bool on);

#endif
