/*
 * What was typed at a terminal and nobody has read yet: it lies in the line discipline (n_tty), which knows
 * lines, and a line that is not finished. The file of it has pieces of a kind, a length (u32 in this
 * machine's order) and bytes:
 *
 *   L  a line with its newline
 *   E  a line that an end-of-file has ended
 *   R  the beginning of a line; where there are no lines, whatever there is
 *   U  what the kernel had not taken yet: it is typed again
 *
 * It is put back by way of the master, like what is typed, with the terminal set so that no byte means
 * anything but itself; the pieces in their order give the same lines. The kernel takes in what is written to
 * a master at its leisure, and nothing tells when it has. Therefore it is made to echo every byte, and all
 * echo is waited for.
 */
#include "guest.h"
#include "terminal.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* The kernel keeps 4095 bytes of it, in whole lines, and would lose the rest of a longer one. */
#define KERNEL_BYTES 4000
#define READ_BYTES   8192
/* All that a pty keeps, in lines of one byte. */
#define MOST_BYTES (1024 * 1024)
#define PIECE_HEAD 5
/* Less than what the kernel keeps of echo. */
#define ECHO_BYTES    512
#define ECHO_LIMIT_MS 2000

struct buffer {
    size_t used;
    unsigned char bytes[MOST_BYTES + KERNEL_BYTES];
};

static int add(struct buffer *to, char kind, const void *bytes, size_t length)
{
    uint32_t count = (uint32_t)length;

    if (to->used + PIECE_HEAD + length > sizeof to->bytes) return -ENOSPC;
    to->bytes[to->used] = (unsigned char)kind;
    memcpy(to->bytes + to->used + 1, &count, sizeof count);
    if (length > 0) memcpy(to->bytes + to->used + PIECE_HEAD, bytes, length);
    to->used += PIECE_HEAD + length;
    return 0;
}

/* All that can be read as the terminal is set. */
static int read_pieces(int slave, struct buffer *to, bool lines)
{
    unsigned char bytes[READ_BYTES];

    for (;;) {
        ssize_t n = read(slave, bytes, sizeof bytes);
        int error;
        char kind = 'R';

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN ? 0 : -errno;
        if (n == 0 && !lines) return 0;
        if (lines) kind = n > 0 && bytes[n - 1] == '\n' ? 'L' : 'E';
        error = add(to, kind, bytes, (size_t)n);
        if (error < 0) return error;
    }
}

/* The beginning of a line can be read where there are no lines; the container's tasks stand still and do not
 * see that. */
static int read_begun_line(int slave, struct buffer *to, const struct termios2 *as_is)
{
    struct termios2 plain = *as_is;
    int error;

    plain.c_lflag &= ~(tcflag_t)ICANON;
    plain.c_cc[VMIN] = 1;
    plain.c_cc[VTIME] = 0;
    if (ioctl(slave, TCSETS2, &plain) < 0) return -errno;
    error = read_pieces(slave, to, false);
    if (ioctl(slave, TCSETS2, as_is) < 0) return -errno;
    return error;
}

static int keep(const struct buffer *from, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int error;

    if (fd < 0) return -errno;
    error = write_all(fd, from->bytes, from->used);
    close(fd);
    return error < 0 ? error : 0;
}

int unread_take(int slave, const char *path, const void *pending, size_t pending_bytes)
{
    static struct buffer taken;
    struct termios2 as_is;
    bool lines;
    int error;

    taken.used = 0;
    if (ioctl(slave, TCGETS2, &as_is) < 0) return -errno;
    lines = (as_is.c_lflag & ICANON) != 0;
    error = read_pieces(slave, &taken, lines);
    if (error == 0 && lines) error = read_begun_line(slave, &taken, &as_is);
    if (error == 0 && pending_bytes > 0) error = add(&taken, 'U', pending, pending_bytes);
    /* Whatever went wrong, what was read is nowhere else any more. */
    if (taken.used > 0) {
        int kept = keep(&taken, path);

        if (error == 0) error = kept;
    } else {
        unlink(path);
    }
    return error;
}

/* One byte that occurs nowhere in what is put back, and is not `other`. 0 when there is none. */
static unsigned char unused_byte(const unsigned char *bytes, size_t length, unsigned char other)
{
    for (int byte = 1; byte < 256; byte++)
        if (byte != '\n' && byte != other && !memchr(bytes, byte, length)) return (unsigned char)byte;
    return 0;
}

/* Reads `count` bytes of echo. */
static int hear_echo(int master, size_t count)
{
    int64_t until = now_ms() + ECHO_LIMIT_MS;
    unsigned char bytes[READ_BYTES];

    while (count > 0) {
        struct pollfd wait = {.fd = master, .events = POLLIN};
        ssize_t n = read(master, bytes, count < sizeof bytes ? count : sizeof bytes);

        if (n > 0)
            count -= (size_t)n;
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        else if (now_ms() > until)
            return -ETIMEDOUT;
        else
            poll(&wait, 1, 100);
    }
    return 0;
}

/* `silent`: a byte that is not echoed; 0 for none. */
static int type(int master, const unsigned char *bytes, size_t length, unsigned char silent)
{
    while (length > 0) {
        size_t part = length < ECHO_BYTES ? length : ECHO_BYTES, echo = part;
        ssize_t n = write(master, bytes, part);
        int error;

        if (n != (ssize_t)part) return n < 0 ? -errno : -EIO;
        for (size_t i = 0; silent && i < part; i++) echo -= bytes[i] == silent;
        error = hear_echo(master, echo);
        if (error < 0) return error;
        bytes += part;
        length -= part;
    }
    return 0;
}

/* What goes back into the line discipline as it was, without the heads of pieces, and what is typed again. */
struct sorted {
    struct buffer back, again;
    /* Where in `back` a line ends by an end-of-file. */
    size_t ends[KERNEL_BYTES + 1], ends_count;
    /* Bytes of the line that is not finished. */
    size_t begun;
    bool full;
};

static void sort_piece(struct sorted *to, char kind, const unsigned char *bytes, size_t length,
                       unsigned char end)
{
    bool fits = !to->full && to->back.used + to->ends_count + length + 1 <= KERNEL_BYTES;
    struct buffer *where = kind != 'U' && fits ? &to->back : &to->again;

    if (kind != 'U') to->full = !fits;
    memcpy(where->bytes + where->used, bytes, length);
    where->used += length;
    if (kind == 'E' && where == &to->back) to->ends[to->ends_count++] = where->used;
    /* Typed again, an end-of-file is what the terminal takes for one. */
    else if (kind == 'E' && end)
        where->bytes[where->used++] = end;
    if (kind == 'R' && where == &to->back) to->begun = length;
}

static void sort(struct sorted *to, const struct buffer *from, unsigned char end)
{
    size_t at = 0;

    to->back.used = to->again.used = to->ends_count = to->begun = 0;
    to->full = false;
    while (at + PIECE_HEAD <= from->used) {
        const unsigned char *piece = from->bytes + at;
        uint32_t length;

        memcpy(&length, piece + 1, sizeof length);
        if (length > from->used - at - PIECE_HEAD) return;
        sort_piece(to, (char)piece[0], piece + PIECE_HEAD, length, end);
        at += PIECE_HEAD + length;
    }
}

/* Nothing means anything but itself, and all is echoed. */
static struct termios2 deaf(const struct termios2 *as_is)
{
    struct termios2 deaf = *as_is;

    deaf.c_iflag = 0;
    deaf.c_oflag = 0;
    deaf.c_lflag = (as_is->c_lflag & ICANON) | ECHO;
    memset(deaf.c_cc, 0, sizeof deaf.c_cc);
    deaf.c_cc[VMIN] = 1;
    return deaf;
}

/* Where every byte occurs, none is left to mean something. */
static int type_again(struct sorted *sorted)
{
    memmove(sorted->again.bytes + sorted->back.used, sorted->again.bytes, sorted->again.used);
    memcpy(sorted->again.bytes, sorted->back.bytes, sorted->back.used);
    sorted->again.used += sorted->back.used;
    return 0;
}

static int put_back(int master, int slave, struct sorted *sorted, const struct termios2 *as_is)
{
    static unsigned char text[2 * KERNEL_BYTES];
    struct termios2 now = deaf(as_is);
    bool lines = (as_is->c_lflag & ICANON) != 0;
    size_t length = 0, end = 0;
    unsigned char stop = 0, mark = 0;
    int error;

    if (lines) {
        stop = unused_byte(sorted->back.bytes, sorted->back.used, 0);
        mark = unused_byte(sorted->back.bytes, sorted->back.used, stop);
        if (!stop || !mark) return type_again(sorted);
        now.c_cc[VEOF] = stop;
        now.c_cc[VREPRINT] = mark;
        now.c_lflag |= IEXTEN;
    }
    for (size_t at = 0; at <= sorted->back.used; at++) {
        while (end < sorted->ends_count && sorted->ends[end] == at) {
            text[length++] = stop;
            end++;
        }
        if (at < sorted->back.used) text[length++] = sorted->back.bytes[at];
    }
    if (ioctl(slave, TCSETS2, &now) < 0) return -errno;
    error = type(master, text, length, stop);
    /* An end-of-file has no echo. Asked to show the line once more, the kernel echoes the question, a newline
     * and the line. */
    if (error == 0 && lines) {
        if (write(master, &mark, 1) != 1)
            error = -EIO;
        else
            error = hear_echo(master, 2 + sorted->begun);
    }
    if (ioctl(slave, TCSETS2, as_is) < 0 && error == 0) error = -errno;
    return error;
}

int unread_give(int master, int slave, const char *path, void *pending, size_t size, size_t *pending_bytes)
{
    static struct buffer kept;
    static struct sorted sorted;
    struct termios2 as_is;
    int fd = open(path, O_RDONLY | O_CLOEXEC), error = 0;
    ssize_t n;

    if (fd < 0) return errno == ENOENT ? 0 : -errno;
    n = read(fd, kept.bytes, sizeof kept.bytes);
    if (n < 0) error = -errno;
    close(fd);
    if (error < 0) return error;
    kept.used = (size_t)n;
    if (ioctl(slave, TCGETS2, &as_is) < 0) return -errno;
    sort(&sorted, &kept, as_is.c_cc[VEOF]);
    if (sorted.back.used > 0 || sorted.ends_count > 0) error = put_back(master, slave, &sorted, &as_is);
    if (sorted.again.used > size) return -ENOSPC;
    memcpy(pending, sorted.again.bytes, sorted.again.used);
    *pending_bytes = sorted.again.used;
    unlink(path);
    return error;
}
