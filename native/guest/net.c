/* The network fence and the announcement after a move, without starting a process for either. */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct arp_frame {
    struct ether_header ethernet;
    struct ether_arp arp;
} __attribute__((packed));

static int receive_ack(int fd)
{
    char buffer[4096];
    ssize_t bytes = recv(fd, buffer, sizeof buffer, 0);
    const struct nlmsghdr *head = (const void *)buffer;
    const struct nlmsgerr *ack = (const void *)(head + 1);

    if (bytes < 0) return -errno;
    if (bytes < (ssize_t)(sizeof *head + sizeof *ack) || head->nlmsg_type != NLMSG_ERROR) return -EPROTO;
    return ack->error;
}

/* The kernel's bridge lets nothing through a port that is not forwarding: no carrier change, no grace period.
 */
static int set_port_state(unsigned index, uint8_t state)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg link;
        struct nlattr protinfo;
        struct nlattr port_state;
        uint8_t state, pad[3];
    } request = {
        .head = {.nlmsg_len = sizeof request,
                 .nlmsg_type = RTM_SETLINK,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .link = {.ifi_family = AF_BRIDGE, .ifi_index = (int)index},
        .protinfo = {.nla_len = 2 * sizeof(struct nlattr) + 4, .nla_type = IFLA_PROTINFO | NLA_F_NESTED},
        .port_state = {.nla_len = sizeof(struct nlattr) + 1, .nla_type = IFLA_BRPORT_STATE},
        .state = state,
    };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    int error = 0;

    if (fd < 0) return -errno;
    if (send(fd, &request, sizeof request, 0) < 0) error = -errno;
    if (error == 0) error = receive_ack(fd);
    close(fd);
    return error;
}

static int link_up(const char *name)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error = 0;

    if (fd < 0) return -errno;
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) error = -errno;
    if (error == 0 && !(request.ifr_flags & IFF_UP)) {
        request.ifr_flags |= IFF_UP;
        if (ioctl(fd, SIOCSIFFLAGS, &request) < 0) error = -errno;
    }
    close(fd);
    return error;
}

static int add_to_bridge(const char *bridge, unsigned index)
{
    struct ifreq request = {.ifr_ifindex = (int)index};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error = 0;

    if (fd < 0) return -errno;
    strncpy(request.ifr_name, bridge, IFNAMSIZ - 1);
    if (ioctl(fd, SIOCBRADDIF, &request) < 0) error = -errno;
    close(fd);
    return error;
}

int fence_close(const char *name)
{
    unsigned index = if_nametoindex(name);

    return index == 0 ? -errno : set_port_state(index, BR_STATE_DISABLED);
}

int fence_open(const char *name, const char *bridge)
{
    unsigned index = if_nametoindex(name);
    char port[64 + IFNAMSIZ];
    int error;

    if (index == 0) return -errno;
    error = link_up(name);
    if (error < 0) return error;
    snprintf(port, sizeof port, "/sys/class/net/%s/brport", name);
    return access(port, F_OK) < 0 ? add_to_bridge(bridge, index) : set_port_state(index, BR_STATE_FORWARDING);
}

static int send_announcement(const char *name, const uint8_t mac[6], const uint8_t ipv4[4])
{
    struct arp_frame frame = {0};
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ARP), .sll_halen = 6};
    int fd, error = 0;

    to.sll_ifindex = (int)if_nametoindex(name);
    if (to.sll_ifindex == 0) return -errno;
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    memset(frame.ethernet.ether_dhost, 0xff, 6);
    memset(to.sll_addr, 0xff, 6);
    memcpy(frame.ethernet.ether_shost, mac, 6);
    frame.ethernet.ether_type = htons(ETH_P_ARP);
    frame.arp.ea_hdr.ar_hrd = htons(ARPHRD_ETHER);
    frame.arp.ea_hdr.ar_pro = htons(ETH_P_IP);
    frame.arp.ea_hdr.ar_hln = 6;
    frame.arp.ea_hdr.ar_pln = 4;
    frame.arp.ea_hdr.ar_op = htons(ARPOP_REQUEST);
    memcpy(frame.arp.arp_sha, mac, 6);
    memcpy(frame.arp.arp_spa, ipv4, 4);
    memcpy(frame.arp.arp_tpa, ipv4, 4);
    if (sendto(fd, &frame, sizeof frame, 0, (struct sockaddr *)&to, sizeof to) < 0) error = -errno;
    frame.arp.ea_hdr.ar_op = htons(ARPOP_REPLY);
    memset(frame.arp.arp_tha, 0xff, 6);
    if (error == 0 && sendto(fd, &frame, sizeof frame, 0, (struct sockaddr *)&to, sizeof to) < 0)
        error = -errno;
    close(fd);
    return error;
}

int enter_network(const char *netns)
{
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int there = open(netns, O_RDONLY | O_CLOEXEC);
    int error = 0;

    if (own < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0) error = -errno;
    if (there >= 0) close(there);
    if (error == 0) return own;
    if (own >= 0) close(own);
    return error;
}

void leave_network(int own)
{
    /* Every later command of this process counts on its own namespace. */
    if (setns(own, CLONE_NEWNET) < 0) _exit(1);
    close(own);
}

/* Gratuitous ARP, and its like for IPv6, from inside the container's network namespace, so that both bridges learn
 * where the MAC lives now. */
int announce(const char *netns, const char *name, const uint8_t mac[6], const uint8_t ipv4[4], const uint8_t *ipv6)
{
    int own = enter_network(netns), error;

    if (own < 0) return own;
    error = send_announcement(name, mac, ipv4);
    if (error == 0 && ipv6) error = advertise(name, mac, ipv6);
    leave_network(own);
    return error;
}
