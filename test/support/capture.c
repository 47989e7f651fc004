/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture MAC INTERFACE...: prints a line for each frame with that source address that comes in by one of the
 * interfaces: "INTERFACE arp request|reply", "INTERFACE ip4 PROTOCOL [FLAGS]", "INTERFACE ip4 icmp TYPE/CODE",
 * "INTERFACE ip6 NEXT", "INTERFACE other TYPE". FLAGS are those of TCP, as letters. Says "capture ready" first; ends with its
 * standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_INTERFACES = 8, SNAP_BYTES = 128 };

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

static void print_ip4(const char *interface, const uint8_t *packet, size_t bytes)
{
    struct iphdr ip;
    struct tcphdr tcp;

    if (bytes < sizeof(ip)) return;
    memcpy(&ip, packet, sizeof(ip));
    size_t header = ip.ihl * 4u;
    if (ip.protocol == IPPROTO_ICMP && bytes > header + 1) {
        printf("%s ip4 icmp %u/%u\n", interface, packet[header], packet[header + 1]);
        return;
    }
    if (ip.protocol != IPPROTO_TCP || bytes < header + sizeof(tcp)) {
        printf("%s ip4 %u\n", interface, ip.protocol);
        return;
    }
    memcpy(&tcp, packet + header, sizeof(tcp));
    printf("%s ip4 tcp %s%s%s%s%s\n", interface, tcp.syn ? "S" : "", tcp.ack ? "A" : "", tcp.psh ? "P" : "",
           tcp.fin ? "F" : "", tcp.rst ? "R" : "");
}

static void print_frame(const char *interface, const uint8_t *frame, size_t bytes)
{
    uint16_t type = (uint16_t)(frame[12] << 8 | frame[13]);

    if (type == ETHERTYPE_ARP && bytes >= 22)
        printf("%s arp %s\n", interface, frame[21] == 1 ? "request" : "reply");
    else if (type == ETHERTYPE_IP)
        print_ip4(interface, frame + ETH_HLEN, bytes - ETH_HLEN);
    else if (type == ETHERTYPE_IPV6 && bytes >= ETH_HLEN + 7)
        printf("%s ip6 %u\n", interface, frame[ETH_HLEN + 6]);
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
