/* Connections that wait to be accepted come back to where they waited: as packets, which is the only way there. */
#include "admission.h"
#include "loose.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* For so long the peer of an open handshake may take to say the next word. Most are asked for it (reopen.c) and answer at once. */
#define OPENING_SECONDS 60
/* Packets that were sent are handled by the next softirq, which may be a while where the processor is busy. */
#define WAITING_SECONDS 5
/* Without it the kernel looks at no such agreement (net/ipv4/syncookies.c, cookie_v4_check). In the namespace of who opens it. */
#define COOKIES "/proc/sys/net/ipv4/tcp_syncookies"

static struct agreement agreement_of(const struct loose *loose)
{
    return (struct agreement){
        .peers_timestamp = loose->peers_timestamp,
        .our_timestamp = loose->our_timestamp,
        .mss = loose->mss,
        .receive_scale = loose->receive_scale,
        .send_scale = loose->send_scale,
        .scales = (loose->flags & LOOSE_SCALES) != 0,
        .sack = (loose->flags & LOOSE_SACK) != 0,
        .timestamps = (loose->flags & LOOSE_TIMESTAMPS) != 0,
        .sequence = htonl(loose->from_peer),
        .acknowledged = htonl(loose->to_peer),
    };
}

/* The segment that makes the connection, then what the peer has sent, then its end. */
static int hand_in(const struct entrance *entrance, const struct loose *loose, const uint8_t *bytes)
{
    uint32_t window = loose->window >> loose->send_scale;
    struct segment segment = {
        .sequence = loose->from_peer, .acknowledged = loose->to_peer, .flags = FLAG_ACK};
    int error;

    segment.window = (uint16_t)(window > 0xffff ? 0xffff : window);
    error = send_segment(entrance, &loose->ends, &segment, NULL, 0);
    for (size_t at = 0; error == 0 && at < loose->received;) {
        size_t length = loose->received - at > loose->piece ? loose->piece : loose->received - at;

        segment.flags = FLAG_ACK | FLAG_PUSH;
        error = send_segment(entrance, &loose->ends, &segment, bytes + at, length);
        segment.sequence += (uint32_t)length;
        at += length;
    }
    segment.flags = FLAG_ACK | FLAG_FIN;
    if (error == 0 && (loose->flags & LOOSE_ENDED))
        error = send_segment(entrance, &loose->ends, &segment, NULL, 0);
    return error;
}

static int hand_in_all(const struct entrance *entrance, const struct admission *admission,
                       const struct loose *loose, size_t count, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < count; i++) {
        struct agreement agreement = agreement_of(&loose[i]);
        size_t own = (size_t)loose[i].received + loose[i].outgoing;
        int error = 0;

        if (own > length || loose[i].send_scale > 14 || loose[i].piece == 0) return -EINVAL;
        if (loose[i].kind != LOOSE_CLOSED) error = admission_expect(admission, &loose[i].ends, &agreement);
        if (error == 0 && (loose[i].kind == LOOSE_WAITING || loose[i].kind == LOOSE_ANSWERED))
            error = hand_in(entrance, &loose[i], bytes);
        if (error < 0) return error;
        bytes += own;
        length -= own;
    }
    return 0;
}

/* 1 when it had to be allowed, 0 when it was, or a negative errno. */
static int allow_cookies(void)
{
    char value[16];
    int error = read_text(COOKIES, value, sizeof value);

    if (error < 0 || strcmp(value, "0") != 0) return error < 0 ? error : 0;
    error = write_text(COOKIES, "1");
    return error < 0 ? error : 1;
}

/*
 * The programs stay before the interface as long as somebody has their descriptors: a process of its own, which is nobody's child, and
 * which then forbids what had to be allowed for them.
 */
static int keep(int seconds, bool forbids, int own)
{
    pid_t child = fork();

    if (child < 0) return -errno;
    if (child > 0) return waitpid(child, NULL, 0) < 0 ? -errno : 0;
    if (fork() != 0) _exit(0);
    /* Whoever waits for the helper's end does not wait for this. */
    for (int fd = 0; fd < 3; fd++) close(fd);
    /* A namespace lives for as long as somebody is in it. */
    if (!forbids) leave_network(own);
    sleep((unsigned)seconds);
    if (forbids) write_text(COOKIES, "0");
    _exit(0);
}

static bool any_opening(const struct loose *loose, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (loose[i].kind == LOOSE_OPENING || loose[i].kind == LOOSE_ANSWERED) return true;
    return false;
}

/* In the container's network namespace; `own` is the helper's. */
static int open_and_hand_in(const struct link_place *place, uint32_t kfunc, const struct entrance *entrance,
                            int own, const struct loose *loose, size_t count, const uint8_t *bytes,
                            size_t length)
{
    struct admission admission;
    int allowed = allow_cookies(), restored, error = allowed < 0 ? allowed : 0;

    if (error < 0) return error;
    error = admission_open(&admission, place->device, kfunc);
    if (error == 0)
        error = keep(any_opening(loose, count) ? OPENING_SECONDS : WAITING_SECONDS, allowed > 0, own);
    if (error == 0) error = set_arp(place->device, false);
    if (error == 0) {
        error = hand_in_all(entrance, &admission, loose, count, bytes, length);
        restored = set_arp(place->device, true);
        if (error == 0) error = restored;
    }
    admission_close(&admission);
    return error;
}

int admit(const struct link_place *place, uint32_t kfunc, const struct loose *loose, size_t count,
          const uint8_t *bytes, size_t length)
{
    struct entrance entrance;
    int error = entrance_open(&entrance, place->veth, place->mac),
        own = error < 0 ? error : enter_network(place->netns);

    if (own >= 0) {
        error = open_and_hand_in(place, kfunc, &entrance, own, loose, count, bytes, length);
        leave_network(own);
    }
    entrance_close(&entrance);
    return own < 0 ? own : error;
}
