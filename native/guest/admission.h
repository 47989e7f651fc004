/*
 * Has the kernel take connections for established that were so elsewhere. A listener's queue can be filled by the network only: what
 * the kernel finds in it has gone through its own handshake, with sequence numbers of its own. But it lets a BPF program
 * vouch for the last segment of a handshake that somebody else has led (bpf_sk_assign_tcp_reqsk, made for proxies that keep
 * floods of SYNs away, since Linux 6.8), with everything that was agreed on.
 */
#ifndef MWARP_ADMISSION_H
#define MWARP_ADMISSION_H

#include "packets.h"

/* What was agreed on, as struct bpf_tcp_req_attrs has it (include/net/tcp.h), and what the segment must be, in network order. */
struct agreement {
    uint32_t peers_timestamp, our_timestamp;
    uint16_t mss;
    uint8_t receive_scale, send_scale;
    uint8_t ecn, scales, sack, timestamps, microseconds, zero[3];
    uint32_t sequence, acknowledged;
};

/* Two programs before an interface, one for each family, and what they know. */
struct admission {
    int maps[2], programs[2], links[2];
};

/* In the interface's network namespace. `kfunc` is the BTF id of bpf_sk_assign_tcp_reqsk. 0 or a negative errno. */
int admission_open(struct admission *admission, const char *interface, uint32_t kfunc);
int admission_expect(const struct admission *admission, const struct ends *ends,
                     const struct agreement *agreement);
void admission_close(struct admission *admission);

#endif
