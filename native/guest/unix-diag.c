/* The UNIX sockets of a network namespace, and who is connected to whom: only sock_diag says that (sock_diag(7)). */
#include "guest.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct text {
    char *bytes;
    size_t size, used;
};

static bool add(struct text *text, const char *format, unsigned value)
{
    int printed = snprintf(text->bytes + text->used, text->size - text->used, format, value);

    if (printed < 0 || (size_t)printed >= text->size - text->used) return false;
    text->used += (size_t)printed;
    return true;
}

/* "INODE STATE PEER UNREAD UNSENT ICON,ICON,..." of one socket; icons are those that wait for a listener. */
static bool add_socket(struct text *text, const struct nlmsghdr *head)
{
    const struct unix_diag_msg *socket = NLMSG_DATA(head);
    const struct rtattr *attribute = (const void *)(socket + 1);
    int left = (int)(head->nlmsg_len - NLMSG_LENGTH(sizeof *socket));
    const uint32_t *icons = NULL;
    struct unix_diag_rqlen queues = {0};
    uint32_t peer = 0, count = 0;
    bool fits;

    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
        if (attribute->rta_type == UNIX_DIAG_PEER) memcpy(&peer, RTA_DATA(attribute), sizeof peer);
        if (attribute->rta_type == UNIX_DIAG_RQLEN) memcpy(&queues, RTA_DATA(attribute), sizeof queues);
        if (attribute->rta_type != UNIX_DIAG_ICONS) continue;
        icons = RTA_DATA(attribute);
        count = (uint32_t)RTA_PAYLOAD(attribute) / sizeof *icons;
    }
    fits = add(text, "%u ", socket->udiag_ino) && add(text, "%u ", socket->udiag_state) && add(text, "%u ", peer) &&
           add(text, "%u ", queues.udiag_rqueue) && add(text, "%u ", queues.udiag_wqueue);
    for (uint32_t i = 0; fits && i < count; i++) fits = add(text, i == 0 ? "%u" : ",%u", icons[i]);
    return fits && add(text, "\n", 0);
}

static int ask(int fd)
{
    struct {
        struct nlmsghdr head;
        struct unix_diag_req body;
    } request = {
        .head = {.nlmsg_len = sizeof request, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .body = {.sdiag_family = AF_UNIX,
                 .udiag_states = UINT32_MAX,
                 .udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN},
    };

    return send(fd, &request, sizeof request, 0) < 0 ? -errno : 0;
}

static int list(int fd, struct text *text)
{
    static _Alignas(struct nlmsghdr) char answer[32768];
    int error = ask(fd);

    while (error == 0) {
        ssize_t got = recv(fd, answer, sizeof answer, 0);
        const struct nlmsghdr *head = (const void *)answer;

        if (got < 0) return -errno;
        for (; NLMSG_OK(head, (size_t)got); head = NLMSG_NEXT(head, got)) {
            if (head->nlmsg_type == NLMSG_DONE) return 0;
            if (head->nlmsg_type == NLMSG_ERROR) return ((const struct nlmsgerr *)NLMSG_DATA(head))->error;
            if (!add_socket(text, head)) return -E2BIG;
        }
    }
    return error;
}

int64_t unix_sockets(const char *netns, char *bytes, size_t size)
{
    struct text text = {.bytes = bytes, .size = size};
    int own = enter_network(netns), error, fd;

    if (own < 0) return own;
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    leave_network(own);
    if (fd < 0) return -errno;
    error = list(fd, &text);
    close(fd);
    return error < 0 ? error : (int64_t)text.used;
}
