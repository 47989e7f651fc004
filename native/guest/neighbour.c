/* Says where an IPv6 address lives now: an unsolicited neighbour advertisement (RFC 4861, 7.2.6). */
#include "guest.h"

#include <errno.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip6.h>
#include <netpacket/packet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What every receiver checks (RFC 4861, 7.1.2): nobody has forwarded it. */
#define ND_HOP_LIMIT 255

struct advertisement {
    struct nd_neighbor_advert head;
    struct nd_opt_hdr option;
    uint8_t mac[6];
} __attribute__((packed));

struct frame {
    struct ether_header ethernet;
    struct ip6_hdr ip;
    struct advertisement body;
} __attribute__((packed));

static uint32_t sum_words(uint32_t sum, const void *bytes, size_t length)
{
    for (size_t i = 0; i + 1 < length; i += 2) {
        uint16_t word;

        memcpy(&word, (const uint8_t *)bytes + i, sizeof word);
        sum += word;
    }
    return sum;
}

/* Over the addresses, the length and the protocol, too (RFC 8200, 8.1). */
static uint16_t checksum(const struct frame *frame)
{
    uint32_t sum = htons(sizeof frame->body) + htons(IPPROTO_ICMPV6);

    sum = sum_words(sum, &frame->ip.ip6_src, 32);
    sum = sum_words(sum, &frame->body, sizeof frame->body);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void fill(struct frame *frame, const uint8_t mac[6], const uint8_t ipv6[16])
{
    static const uint8_t all_nodes[16] = {0xff, 2, [15] = 1}, all_nodes_mac[6] = {0x33, 0x33, [5] = 1};

    memcpy(frame->ethernet.ether_dhost, all_nodes_mac, 6);
    memcpy(frame->ethernet.ether_shost, mac, 6);
    frame->ethernet.ether_type = htons(ETHERTYPE_IPV6);
    frame->ip.ip6_flow = htonl(6U << 28);
    frame->ip.ip6_plen = htons(sizeof frame->body);
    frame->ip.ip6_nxt = IPPROTO_ICMPV6;
    frame->ip.ip6_hlim = ND_HOP_LIMIT;
    memcpy(&frame->ip.ip6_src, ipv6, 16);
    memcpy(&frame->ip.ip6_dst, all_nodes, 16);
    frame->body.head.nd_na_type = ND_NEIGHBOR_ADVERT;
    frame->body.head.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE;
    memcpy(&frame->body.head.nd_na_target, ipv6, 16);
    frame->body.option.nd_opt_type = ND_OPT_TARGET_LINKADDR;
    frame->body.option.nd_opt_len = 1;
    memcpy(frame->body.mac, mac, 6);
    frame->body.head.nd_na_cksum = checksum(frame);
}

int advertise(const char *name, const uint8_t mac[6], const uint8_t ipv6[16])
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_IPV6), .sll_halen = 6};
    struct frame frame = {0};
    int fd, error = 0;

    to.sll_ifindex = (int)if_nametoindex(name);
    if (to.sll_ifindex == 0) return -errno;
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    fill(&frame, mac, ipv6);
    if (sendto(fd, &frame, sizeof frame, 0, (struct sockaddr *)&to, sizeof to) < 0) error = -errno;
    close(fd);
    return error;
}
