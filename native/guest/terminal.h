/*
 * A container's terminal, as its shim has it: the master of the pty, whoever is attached to it, and what was
 * typed and nobody has read yet. The latter is in the kernel, and CRIU leaves it there (criu/tty.c,
 * tty_dump_queued_data: only where both ends are dumped), so it is taken out of the frozen container and put
 * into the restored one.
 *
 * JOB/console is the socket at which runc delivers the master (its --console-socket). CONTAINER/terminal is
 * the one for the agent: frames of a kind, a length (u32le) and bytes.
 *
 *   i BYTES        typed. Answered by `a` and the number of bytes (u32le) once they are the shim's to deliver
 *   w ROWS COLUMNS window size (u16le each)
 *   t              takes what nobody has read into CONTAINER/input; from then on nothing typed is accepted
 *   g              gives what CONTAINER/input has to the container; things are as ever afterwards
 *
 * `t` and `g` are for a container that stands still, and are answered by the same kind and an errno (i32le).
 */
#ifndef MWARP_TERMINAL_H
#define MWARP_TERMINAL_H

#include <poll.h>
#include <stddef.h>

#define MOST_CLIENTS 8
#define FRAME_BYTES  4096
/* More than what a pty keeps of what was typed. */
#define PENDING_BYTES (128 * 1024)
#define HEADER_BYTES  5
/* Runc's socket, what it is connected by, the agent's socket, the master for writing, and the agent's
 * connections. */
#define TERMINAL_POLLS (4 + MOST_CLIENTS)

struct terminal_client {
    int fd;
    size_t used;
    unsigned char frame[HEADER_BYTES + FRAME_BYTES];
};

struct terminal {
    const char *container;
    int console, runc, server;
    /* The shim's end of the pty, and one of the container's, which is kept open: without one a read of the
     * master fails. -1: not here. */
    int master, slave;
    /* Typed, and not taken by the kernel yet. */
    unsigned char pending[PENDING_BYTES];
    size_t pending_bytes;
    bool held;
    struct terminal_client clients[MOST_CLIENTS];
};

/* Makes both sockets. 0 or a negative errno. */
int terminal_listen(struct terminal *terminal, const char *container, const char *job);
/* Fills `polls` with what to wait for. */
void terminal_wait(const struct terminal *terminal, struct pollfd *polls);
/* Does what has come. `drain` puts all that the container has said into the log. */
void terminal_serve(struct terminal *terminal, const struct pollfd *polls, void (*drain)(void *),
                    void *drains);
/* Whether anybody looks. */
bool terminal_is_watched(const struct terminal *terminal);
/* The container has ended: what it said last can be read, and then nothing more comes. */
void terminal_end(struct terminal *terminal);

/* unread.c. Of a pty whose tasks stand still: what was typed and not read, to and from the file `path`. 0 or
 * a negative errno. */
int unread_take(int slave, const char *path, const void *pending, size_t pending_bytes);
/*
 * `pending` gets what has to be typed again, at most `size` bytes, their number into `*pending_bytes`. The
 * echo of what is put back is read from `master`, whose output must have been read before, and forgotten.
 */
int unread_give(int master, int slave, const char *path, void *pending, size_t size, size_t *pending_bytes);

#endif
