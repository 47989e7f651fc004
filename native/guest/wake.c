/*
 * Makes the peers of a container's connections send again at once what met a container that stood still. A TCP that gets no
 * answer waits twice as long each time, so a peer may otherwise wait for up to as long again as the container stood still.
 * An ICMP message "host unreachable" about the segment in question takes one such doubling back, and when that time has
 * passed by then, the segment is sent at once (RFC 6069; Linux: tcp_ld_RTO_revert in net/ipv4/tcp_ipv4.c). To any other TCP it
 * is a soft error, which ends no connection (RFC 1122, 4.2.3.9); only a program that asks for every error (IP_RECVERR, ip(7))
 * sees it.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* More doublings than any connection lives through while a container moves: 0.2 s becomes 13 minutes. */
#define REPEATS 12

struct first_of_tcp {
    uint16_t source, target;
    uint32_t sequence;
};

static uint16_t checksum(const void *bytes, size_t length)
{
    const uint16_t *words = bytes;
    uint32_t sum = 0;

    for (size_t i = 0; i < length / 2; i++) sum += words[i];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* The segment as the peer sent it, as far as it is quoted. */
static struct first_of_tcp quote(const struct connection *connection)
{
    return (struct first_of_tcp){
        .source = htons(connection->peer_port),
        .target = htons(connection->port),
        .sequence = htonl(connection->next_from_peer),
    };
}

static int wake_ipv4(int fd, const struct connection *connection)
{
    struct {
        struct icmphdr icmp;
        struct iphdr ip;
        struct first_of_tcp tcp;
    } __attribute__((packed)) message = {0};
    struct sockaddr_in to = {.sin_family = AF_INET};

    message.ip.version = 4;
    message.ip.ihl = sizeof message.ip / 4;
    message.ip.tot_len = htons(sizeof message.ip + sizeof(struct first_of_tcp) + 12);
    message.ip.ttl = 64;
    message.ip.protocol = IPPROTO_TCP;
    memcpy(&message.ip.saddr, connection->peer, 4);
    memcpy(&message.ip.daddr, connection->address, 4);
    message.ip.check = checksum(&message.ip, sizeof message.ip);
    message.tcp = quote(connection);
    message.icmp.type = ICMP_DEST_UNREACH;
    message.icmp.code = ICMP_HOST_UNREACH;
    message.icmp.checksum = checksum(&message, sizeof message);
    memcpy(&to.sin_addr, connection->peer, 4);
    return sendto(fd, &message, sizeof message, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to) < 0 ? -errno : 0;
}

/* The kernel computes the checksum. */
static int wake_ipv6(int fd, const struct connection *connection)
{
    struct {
        struct icmp6_hdr icmp;
        struct ip6_hdr ip;
        struct first_of_tcp tcp;
    } __attribute__((packed)) message = {0};
    struct sockaddr_in6 to = {.sin6_family = AF_INET6};

    message.ip.ip6_flow = htonl(6U << 28);
    message.ip.ip6_plen = htons(20);
    message.ip.ip6_nxt = IPPROTO_TCP;
    message.ip.ip6_hlim = 64;
    memcpy(&message.ip.ip6_src, connection->peer, 16);
    memcpy(&message.ip.ip6_dst, connection->address, 16);
    message.tcp = quote(connection);
    message.icmp.icmp6_type = ICMP6_DST_UNREACH;
    message.icmp.icmp6_code = ICMP6_DST_UNREACH_NOROUTE;
    memcpy(&to.sin6_addr, connection->peer, 16);
    return sendto(fd, &message, sizeof message, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to) < 0 ? -errno : 0;
}

/* One that cannot be reached keeps nobody else waiting. Answers with the number of connections whose peer was told. */
static int64_t wake_all(const struct connection *connections, size_t count)
{
    int ipv4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    int ipv6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
    int64_t told = 0;

    for (int repeat = 0; repeat < REPEATS; repeat++) {
        told = 0;
        for (size_t i = 0; i < count; i++) {
            int error = connections[i].family == 4 ? wake_ipv4(ipv4, &connections[i]) : wake_ipv6(ipv6, &connections[i]);

            if (error == 0) told++;
        }
    }
    if (ipv4 >= 0) close(ipv4);
    if (ipv6 >= 0) close(ipv6);
    return told;
}

int64_t wake_peers(const char *netns, const struct connection *connections, size_t count)
{
    int own = enter_network(netns);
    int64_t told;

    if (own < 0) return own;
    told = wake_all(connections, count);
    leave_network(own);
    return told;
}
