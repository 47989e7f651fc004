/* Makes packets and lets them in: Ethernet, IPv4 or IPv6, in parts where they are long, and TCP or UDP. */
#include "packets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of a packet's contents in one frame: as IP has parts, a multiple of 8, and less than any link carries. */
#define FRAME_BYTES 1400

/* Nobody has it: answers to these packets go nowhere. */
static const uint8_t nobody[6] = {2, 0x4d, 0x57, 0xff, 0xff, 0xfe};

int entrance_open(struct entrance *entrance, const char *veth, const uint8_t mac[6])
{
    int yes = 1;

    memcpy(entrance->mac, mac, 6);
    entrance->interface = (int)if_nametoindex(veth);
    entrance->fd = -1;
    if (entrance->interface == 0) return -errno;
    entrance->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (entrance->fd < 0) return -errno;
    return setsockopt(entrance->fd, SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof yes) < 0 ? -errno : 0;
}

void entrance_close(struct entrance *entrance)
{
    if (entrance->fd >= 0) close(entrance->fd);
    entrance->fd = -1;
}

static uint32_t sum(uint32_t so_far, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;

    for (; length > 1; length -= 2, at += 2) {
        uint16_t word;

        memcpy(&word, at, sizeof word);
        so_far += word;
    }
    return length == 1 ? so_far + *at : so_far;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static size_t address_bytes(const struct ends *ends)
{
    return ends->family == 4 ? 4 : 16;
}

/* The pseudo header that the checksums of TCP and UDP begin with (RFC 9293, 3.1; RFC 8200, 8.1). */
static uint32_t pseudo_sum(const struct ends *ends, uint8_t protocol, size_t length)
{
    uint32_t both = sum(sum(0, ends->peer, address_bytes(ends)), ends->address, address_bytes(ends));

    return both + htons(protocol) + htons((uint16_t)length);
}

/*
 * Which part of a packet a frame has. Identifications count on for as long as this process lives; a peer that has chosen the same one a
 * moment ago sent to another kernel.
 */
struct part {
    size_t offset, length, whole;
    uint32_t identification;
};

static bool is_whole(const struct part *part)
{
    return part->length == part->whole;
}

static bool has_more(const struct part *part)
{
    return part->offset + part->length < part->whole;
}

static size_t put_ipv4(uint8_t *at, const struct ends *ends, uint8_t protocol, const struct part *part)
{
    struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = protocol};

    ip.tot_len = htons((uint16_t)(sizeof ip + part->length));
    ip.id = htons((uint16_t)part->identification);
    ip.frag_off = htons((uint16_t)(part->offset / 8 | (has_more(part) ? IP_MF : 0)));
    memcpy(&ip.saddr, ends->peer, 4);
    memcpy(&ip.daddr, ends->address, 4);
    ip.check = fold(sum(0, &ip, sizeof ip));
    memcpy(at, &ip, sizeof ip);
    return sizeof ip;
}

static size_t put_ipv6(uint8_t *at, const struct ends *ends, uint8_t protocol, const struct part *part)
{
    struct ip6_hdr ip = {.ip6_flow = htonl(6U << 28)};
    struct ip6_frag fragment = {.ip6f_nxt = protocol, .ip6f_ident = htonl(part->identification)};
    size_t more = is_whole(part) ? 0 : sizeof fragment;

    fragment.ip6f_offlg = htons((uint16_t)(part->offset | (has_more(part) ? 1 : 0)));
    ip.ip6_plen = htons((uint16_t)(more + part->length));
    ip.ip6_nxt = more ? IPPROTO_FRAGMENT : protocol;
    ip.ip6_hlim = 64;
    memcpy(&ip.ip6_src, ends->peer, 16);
    memcpy(&ip.ip6_dst, ends->address, 16);
    memcpy(at, &ip, sizeof ip);
    memcpy(at + sizeof ip, &fragment, more);
    return sizeof ip + more;
}

/* How the kernel is to see a frame: as it is, or, a long segment, as its own TCP makes them, cut into frames at the last moment (TSO). */
static struct virtio_net_hdr view_of(const struct ends *ends, uint8_t protocol, size_t headers, size_t bytes)
{
    if (protocol != IPPROTO_TCP || bytes <= FRAME_BYTES) return (struct virtio_net_hdr){0};
    return (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = ends->family == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6,
        .hdr_len = (uint16_t)(headers + sizeof(struct tcphdr)),
        .gso_size = FRAME_BYTES,
        .csum_start = (uint16_t)headers,
        .csum_offset = offsetof(struct tcphdr, th_sum),
    };
}

static int send_frame(const struct entrance *entrance, const struct virtio_net_hdr *view, uint8_t *frame,
                      size_t length, uint16_t type)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = entrance->interface, .sll_halen = 6};
    struct iovec parts[2] = {{(void *)(uintptr_t)view, sizeof *view}, {frame, length}};
    struct msghdr message = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = parts, .msg_iovlen = 2};
    struct ether_header head = {.ether_type = htons(type)};

    memcpy(head.ether_dhost, entrance->mac, 6);
    memcpy(head.ether_shost, nobody, 6);
    memcpy(frame, &head, sizeof head);
    return sendmsg(entrance->fd, &message, 0) < 0 ? -errno : 0;
}

/* In parts of at most `most` bytes. */
static int send_packet(const struct entrance *entrance, const struct ends *ends, uint8_t protocol,
                       const uint8_t *bytes, size_t length, size_t most)
{
    static uint32_t identification = 0x4d570000;
    static uint8_t frame[1 << 16];
    struct part part = {.whole = length, .identification = identification++};
    int error = 0;

    do {
        size_t at = sizeof(struct ether_header);
        struct virtio_net_hdr view;

        part.length = length - part.offset > most ? most : length - part.offset;
        at += ends->family == 4 ? put_ipv4(frame + at, ends, protocol, &part)
                                : put_ipv6(frame + at, ends, protocol, &part);
        memcpy(frame + at, bytes + part.offset, part.length);
        view = view_of(ends, protocol, at, length - sizeof(struct tcphdr));
        error = send_frame(entrance, &view, frame, at + part.length,
                           ends->family == 4 ? ETHERTYPE_IP : ETHERTYPE_IPV6);
        part.offset += part.length;
    } while (error == 0 && part.offset < length);
    return error;
}

int send_segment(const struct entrance *entrance, const struct ends *ends, const struct segment *segment,
                 const void *bytes, size_t length)
{
    static uint8_t packet[sizeof(struct tcphdr) + SEGMENT_BYTES];
    struct tcphdr tcp = {.th_sport = htons(ends->peer_port), .th_dport = htons(ends->port), .th_off = 5};
    uint32_t head = pseudo_sum(ends, IPPROTO_TCP, sizeof tcp + length);

    if (length > SEGMENT_BYTES) return -EMSGSIZE;
    tcp.th_seq = htonl(segment->sequence);
    tcp.th_ack = htonl(segment->acknowledged);
    tcp.th_flags = segment->flags;
    tcp.th_win = htons(segment->window);
    /* What the kernel cuts it sums, too, and begins with what is there. */
    tcp.th_sum =
        length > FRAME_BYTES ? (uint16_t)~fold(head) : fold(sum(sum(head, &tcp, sizeof tcp), bytes, length));
    memcpy(packet, &tcp, sizeof tcp);
    memcpy(packet + sizeof tcp, bytes, length);
    return send_packet(entrance, ends, IPPROTO_TCP, packet, sizeof tcp + length, sizeof packet);
}

int ask_peer(const struct ends *ends, uint32_t sequence, uint32_t acknowledged)
{
    struct tcphdr tcp = {
        .th_sport = htons(ends->port), .th_dport = htons(ends->peer_port), .th_off = 5, .th_flags = FLAG_ACK};
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    bool short_one = ends->family == 4;
    int fd = socket(short_one ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP), error = 0;

    if (fd < 0) return -errno;
    tcp.th_seq = htonl(sequence);
    tcp.th_ack = htonl(acknowledged);
    tcp.th_sum = fold(sum(pseudo_sum(ends, IPPROTO_TCP, sizeof tcp), &tcp, sizeof tcp));
    memcpy(&four.sin_addr, ends->peer, 4);
    memcpy(&six.sin6_addr, ends->peer, 16);
    if (sendto(fd, &tcp, sizeof tcp, MSG_DONTWAIT,
               short_one ? (struct sockaddr *)&four : (struct sockaddr *)&six,
               short_one ? sizeof four : sizeof six) < 0)
        error = -errno;
    close(fd);
    return error;
}

int send_datagram(const struct entrance *entrance, const struct ends *ends, const void *bytes, size_t length)
{
    static uint8_t packet[1 << 16];
    struct udphdr udp = {.uh_sport = htons(ends->peer_port), .uh_dport = htons(ends->port)};
    size_t whole = sizeof udp + length;

    if (whole > 65535 - sizeof(struct iphdr)) return -EMSGSIZE;
    udp.uh_ulen = htons((uint16_t)whole);
    udp.uh_sum = fold(sum(sum(pseudo_sum(ends, IPPROTO_UDP, whole), &udp, sizeof udp), bytes, length));
    /* No checksum is written as none, so none is ever 0. */
    if (udp.uh_sum == 0) udp.uh_sum = 0xffff;
    memcpy(packet, &udp, sizeof udp);
    memcpy(packet + sizeof udp, bytes, length);
    return send_packet(entrance, ends, IPPROTO_UDP, packet, whole, FRAME_BYTES);
}

int set_arp(const char *device, bool on)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), error = 0;

    if (fd < 0) return -errno;
    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) error = -errno;
    request.ifr_flags = (short)(on ? request.ifr_flags & ~IFF_NOARP : request.ifr_flags | IFF_NOARP);
    if (error == 0 && ioctl(fd, SIOCSIFFLAGS, &request) < 0) error = -errno;
    close(fd);
    return error;
}
