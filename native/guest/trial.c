/*
 * mwarp-guest tcp-trial KFUNC: in a network namespace of its own, connections that nobody has accepted, so that the agent sees whether
 * it reads them right from this kernel's memory; and, where KFUNC (the BTF id of bpf_sk_assign_tcp_reqsk) is not 0, one by each family
 * that this kernel was to take over. Prints "made FAMILIES" or "made FAMILIES admitted", and stays until its input ends.
 *
 *   127.0.0.1, [::1]  both at port TRIAL_PORT: a listener that does not accept
 *   at each           a connection by way of the kernel that has sent TRIAL_WORD
 *                     one from port TRIAL_PEER that was agreed on elsewhere, as struct agreement below says
 */
#include "admission.h"
#include "loose.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TRIAL_PORT = 77, TRIAL_PEER = 7777, FROM_PEER = 0x70000001, TO_PEER = 0x60000001, MSS = 1400 };
#define TRIAL_WORD "mWarp"

static int up(const char *device)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), error = 0;

    if (fd < 0) return -errno;
    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    request.ifr_flags = IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0) error = -errno;
    close(fd);
    return error;
}

/* Packets that come to the loopback device as if from outside are taken. */
static void take_all(void)
{
    static const char *const settings[] = {"rp_filter", "accept_local", "route_localnet"};

    for (size_t i = 0; i < 3; i++) {
        char path[96];

        snprintf(path, sizeof path, "/proc/sys/net/ipv4/conf/all/%s", settings[i]);
        write_text(path, i == 0 ? "0" : "1");
        snprintf(path, sizeof path, "/proc/sys/net/ipv4/conf/lo/%s", settings[i]);
        write_text(path, i == 0 ? "0" : "1");
    }
}

static int call_in(const struct sockaddr *address, socklen_t length)
{
    int listener = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (listener < 0 || client < 0) return -errno;
    if (bind(listener, address, length) < 0 || listen(listener, 8) < 0) return -errno;
    if (connect(client, address, length) < 0) return -errno;
    return send(client, TRIAL_WORD, strlen(TRIAL_WORD), 0) < 0 ? -errno : 0;
}

static int admit_one(const struct admission *admission, const struct entrance *entrance,
                     const struct ends *ends)
{
    struct agreement agreement = {
        .mss = MSS,
        .send_scale = 7,
        .receive_scale = 6,
        .scales = 1,
        .sack = 1,
        .sequence = htonl(FROM_PEER),
        .acknowledged = htonl(TO_PEER),
    };
    struct segment segment = {
        .sequence = FROM_PEER, .acknowledged = TO_PEER, .window = 500, .flags = FLAG_ACK};
    int error = admission_expect(admission, ends, &agreement);

    return error < 0 ? error : send_segment(entrance, ends, &segment, "", 0);
}

static int admit_some(uint32_t kfunc, bool by_ipv6)
{
    static const uint8_t nowhere[6];
    struct ends ends = {.family = 4,
                        .address = {127, 0, 0, 1},
                        .peer = {127, 0, 0, 2},
                        .port = TRIAL_PORT,
                        .peer_port = TRIAL_PEER};
    struct ends six = {
        .family = 6, .address = {[15] = 1}, .peer = {[15] = 1}, .port = TRIAL_PORT, .peer_port = TRIAL_PEER};
    struct admission admission;
    struct entrance entrance;
    int error = entrance_open(&entrance, "lo", nowhere);

    if (error == 0) error = admission_open(&admission, "lo", kfunc);
    if (error == 0) error = admit_one(&admission, &entrance, &ends);
    if (error == 0 && by_ipv6) error = admit_one(&admission, &entrance, &six);
    /* Descriptors of both stay for as long as this process does. */
    return error;
}

int tcp_trial_main(int argc, char **argv)
{
    struct sockaddr_in four = {
        .sin_family = AF_INET, .sin_port = htons(TRIAL_PORT), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons(TRIAL_PORT), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    uint32_t kfunc = argc == 1 ? (uint32_t)strtoul(argv[0], NULL, 10) : 0;
    bool by_ipv6 = access("/proc/sys/net/ipv6", F_OK) == 0;
    int error = unshare(CLONE_NEWNET) < 0 ? -errno : up("lo");
    char byte;

    if (error == 0) take_all();
    if (error == 0) error = call_in((struct sockaddr *)&four, sizeof four);
    if (error == 0 && by_ipv6) error = call_in((struct sockaddr *)&six, sizeof six);
    if (error < 0) {
        fprintf(stderr, "mwarp-guest tcp-trial: %s\n", strerror(-error));
        return 1;
    }
    error = kfunc == 0 ? -ENOSYS : admit_some(kfunc, by_ipv6);
    printf("made %d%s\n", by_ipv6 ? 2 : 1, error == 0 ? " admitted" : "");
    fflush(stdout);
    if (error < 0) fprintf(stderr, "mwarp-guest tcp-trial: nothing was admitted: %s\n", strerror(-error));
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    return 0;
}
