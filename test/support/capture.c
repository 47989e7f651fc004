/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture MAC INTERFACE...: prints a line for each frame with that source address that comes in by one of the
 * interfaces: "INTERFACE arp request|reply", "INTERFACE ip4|ip6 tcp FLAGS", "INTERFACE ip4|ip6 icmp TYPE/CODE",
 * "INTERFACE ip4|ip6 PROTOCOL", "INTERFACE other TYPE". FLAGS are those of TCP, as letters; after the type of a neighbour
 * advertisement that answers nobody comes "unasked". Says "capture ready" first; ends with its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_INTERFACES = 8, SNAP_BYTES = 128, IP4_BYTES = 20, IP6_BYTES = 40 };
/* First byte of the flags of a neighbour advertisement (RFC 4861, 4.4). */
enum { ND_SOLICITED = 0x40 };

static int listen_on(const char *interface)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)if_nametoindex(interface)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

    if (address.sll_ifindex == 0 || fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        perror(interface);
        return -1;
    }
    return fd;
}

static void print_ip(const char *interface, const char *version, uint8_t protocol, const uint8_t *body, size_t bytes)
{
    struct tcphdr tcp;

    if ((protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) && bytes > 4) {
        bool unasked = protocol == IPPROTO_ICMPV6 && body[0] == ND_NEIGHBOR_ADVERT && !(body[4] & ND_SOLICITED);
        printf("%s %s icmp %u/%u%s\n", interface, version, body[0], body[1], unasked ? " unasked" : "");
        return;
    }
    if (protocol != IPPROTO_TCP || bytes < sizeof(tcp)) {
        printf("%s %s %u\n", interface, version, protocol);
        return;
    }
    memcpy(&tcp, body, sizeof(tcp));
    printf("%s %s tcp %s%s%s%s%s\n", interface, version, tcp.syn ? "S" : "", tcp.ack ? "A" : "", tcp.psh ? "P" : "",
           tcp.fin ? "F" : "", tcp.rst ? "R" : "");
}

static void print_frame(const char *interface, const uint8_t *frame, size_t bytes)
{
    uint16_t type = (uint16_t)(frame[12] << 8 | frame[13]);

    if (type == ETHERTYPE_ARP && bytes >= 22)
        printf("%s arp %s\n", interface, frame[21] == 1 ? "request" : "reply");
    else if (type == ETHERTYPE_IP && bytes >= ETH_HLEN + IP4_BYTES && bytes >= ETH_HLEN + (frame[ETH_HLEN] & 15U) * 4)
        print_ip(interface, "ip4", frame[ETH_HLEN + 9], frame + ETH_HLEN + (frame[ETH_HLEN] & 15U) * 4,
                 bytes - ETH_HLEN - (frame[ETH_HLEN] & 15U) * 4);
    else if (type == ETHERTYPE_IPV6 && bytes >= ETH_HLEN + IP6_BYTES)
        print_ip(interface, "ip6", frame[ETH_HLEN + 6], frame + ETH_HLEN + IP6_BYTES, bytes - ETH_HLEN - IP6_BYTES);
    else
        printf("%s other %04x\n", interface, type);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct pollfd wait[1 + MAX_INTERFACES] = {{.fd = 0, .events = POLLIN}};
    uint8_t frame[SNAP_BYTES], mac[6];
    nfds_t count = 1;

    if (argc < 3 || argc > 2 + MAX_INTERFACES ||
        sscanf(argv[1], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
               &mac[5]) != 6)
        return 2;
    for (int i = 2; i < argc; i++, count++) {
        wait[count] = (struct pollfd){.fd = listen_on(argv[i]), .events = POLLIN};
        if (wait[count].fd < 0) return 1;
    }
    printf("capture ready\n");
    fflush(stdout);
    while (poll(wait, count, -1) >= 0 && wait[0].revents == 0) {
        for (nfds_t i = 1; i < count; i++) {
            struct sockaddr_ll from;
            socklen_t length = sizeof(from);

            if (wait[i].revents == 0) continue;
            ssize_t got = recvfrom(wait[i].fd, frame, sizeof(frame), 0, (struct sockaddr *)&from, &length);
            if (got < ETH_HLEN || from.sll_pkttype == PACKET_OUTGOING || memcmp(frame + 6, mac, 6) != 0)
                continue;
            print_frame(argv[i + 1], frame, (size_t)got);
        }
    }
    return 0;
}
