/*
 * The process between a container and the agent. It holds the read ends of the container's stdout and stderr
 * (pipes: CRIU can take those along, sockets it cannot), writes what comes out as CRI log lines, is the
 * parent of the container's init once runc is gone, and keeps its exit code. The agent may come and go
 * meanwhile.
 *
 * With --terminal the container has a pty instead of the pipes, whose master the shim keeps (terminal.h); what comes out of it counts as
 * stdout. While somebody looks, the log is not kept waiting for the end of a line.
 *
 * Files: CONTAINER/log, CONTAINER/exit, CONTAINER/pid (written by runc); JOB/status (exit code of runc),
 * JOB/pid (ours). SIGUSR1 asks for all that the container has said so far to be in its log, the beginning of an unfinished line, too;
 * CONTAINER/flushed says that it is. A container that stands still says nothing more: its log is complete then.
 */
#include "guest.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES  16384
#define EARLY_EXITS 64
#define NO_STATUS   (-1)
/* Of those in `streams`. */
#define OUT 0
#define ERR 1
#define TTY 2
#define STREAMS 3

struct stream {
    const char *name;
    int fd;
    size_t used;
    char line[LINE_BYTES];
};

struct shim {
    const char *container, *job;
    /* Opened at the first line: the log of a container that comes from elsewhere is put there after the shim has started. */
    int log;
    pid_t runc, init;
    int runc_status, init_status;
    /* Children reaped before we know which of them is the container's init. */
    struct {
        pid_t pid;
        int status;
    } early[EARLY_EXITS];
    size_t early_count;
    struct stream streams[STREAMS];
    /* Null for a container without. */
    struct terminal *terminal;
};

int exit_code(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void write_number(const char *directory, const char *name, int number)
{
    char path[PATH_MAX], text[32];

    snprintf(path, sizeof path, "%s/%s", directory, name);
    snprintf(text, sizeof text, "%d\n", number);
    /* A directory that is gone means that the agent gave the container up: nobody will ask. */
    (void)write_text_atomic(path, text);
}

/*
 * A runc that stands by may have something to say before the container's log has come from its other VM, and takes the place of what
 * is there.
 */
static void open_log(struct shim *shim)
{
    char path[PATH_MAX];
    struct stat status;

    if (shim->log >= 0 && fstat(shim->log, &status) == 0 && status.st_nlink > 0) return;
    if (shim->log >= 0) close(shim->log);
    snprintf(path, sizeof path, "%s/log", shim->container);
    shim->log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

/* One log line: time, stream, F (or P when it goes on in the next), text. */
static void log_line(struct shim *shim, const struct stream *stream, size_t bytes, char tag)
{
    struct timespec now;
    struct tm utc;
    char head[80], date[32];
    struct iovec parts[3];

    open_log(shim);
    if (shim->log < 0) return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    parts[0].iov_len =
        (size_t)snprintf(head, sizeof head, "%s.%09ldZ %s %c ", date, now.tv_nsec, stream->name, tag);
    parts[0].iov_base = head;
    parts[1] = (struct iovec){(void *)stream->line, bytes};
    parts[2] = (struct iovec){(void *)"\n", 1};
    if (writev(shim->log, parts, 3) < 0) return;
}

/* Takes what is in the pipe, or the pty; at its end writes the unfinished line and closes. False when there was nothing to take. */
static bool drain(struct shim *shim, struct stream *stream)
{
    ssize_t n = read(stream->fd, stream->line + stream->used, LINE_BYTES - stream->used);
    char *newline;

    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return false;
    if (n <= 0) {
        if (stream->used > 0) log_line(shim, stream, stream->used, 'F');
        close(stream->fd);
        stream->fd = -1;
        return false;
    }
    stream->used += (size_t)n;
    while ((newline = memchr(stream->line, '\n', stream->used))) {
        size_t bytes = (size_t)(newline - stream->line);

        log_line(shim, stream, bytes, 'F');
        stream->used -= bytes + 1;
        memmove(stream->line, newline + 1, stream->used);
    }
    if (stream->used == LINE_BYTES) {
        log_line(shim, stream, LINE_BYTES, 'P');
        stream->used = 0;
    }
    return true;
}

/* Whoever looks at a terminal is not to wait for the end of the line. */
static void show_begun(struct shim *shim)
{
    struct stream *stream = &shim->streams[TTY];

    if (stream->used == 0 || !terminal_is_watched(shim->terminal)) return;
    log_line(shim, stream, stream->used, 'P');
    stream->used = 0;
}

/* All that the container has said to its terminal: a read that finds nothing has waited for what the kernel still had under way. */
static void drain_terminal(void *of)
{
    struct shim *shim = of;

    while (shim->streams[TTY].fd >= 0 && drain(shim, &shim->streams[TTY])) {}
}

/* The rest of a line that was cut comes, with its own tag, from here or from the shim of the VM that the container moves to. */
static void flush(struct shim *shim)
{
    drain_terminal(shim);
    for (size_t i = 0; i < STREAMS; i++) {
        struct stream *stream = &shim->streams[i];
        int bytes;

        while (i != TTY && stream->fd >= 0 && ioctl(stream->fd, FIONREAD, &bytes) == 0 && bytes > 0)
            drain(shim, stream);
        if (stream->used > 0) log_line(shim, stream, stream->used, 'P');
        stream->used = 0;
    }
    write_number(shim->container, "flushed", 1);
}

static void init_ended(struct shim *shim, int status)
{
    shim->init_status = exit_code(status);
    write_number(shim->container, "exit", shim->init_status);
}

static void runc_ended(struct shim *shim, int status)
{
    char path[PATH_MAX], text[32];
    size_t i;

    shim->runc_status = exit_code(status);
    /* Written by runc, or by the agent for a container that runs although runc failed. Old files are gone by
     * now. */
    snprintf(path, sizeof path, "%s/pid", shim->container);
    if (read_text(path, text, sizeof text) > 0) shim->init = atoi(text);
    write_number(shim->job, "status", shim->runc_status);
    for (i = 0; i < shim->early_count; i++)
        if (shim->early[i].pid == shim->init) init_ended(shim, shim->early[i].status);
}

static void reap(struct shim *shim)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == shim->runc) {
            runc_ended(shim, status);
        } else if (shim->runc_status == NO_STATUS && shim->early_count < EARLY_EXITS) {
            shim->early[shim->early_count].pid = pid;
            shim->early[shim->early_count++].status = status;
        } else if (pid == shim->init) {
            init_ended(shim, status);
        }
    }
}

static pid_t start(char **argv, int out, int err)
{
    pid_t pid = fork();
    sigset_t none;
    int null;

    if (pid != 0) return pid < 0 ? -errno : pid;
    null = open("/dev/null", O_RDONLY);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    execvp(argv[0], argv);
    dprintf(STDERR_FILENO, "mwarp-guest: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static bool is_over(const struct shim *shim)
{
    return shim->runc_status != NO_STATUS && (shim->init < 0 || shim->init_status != NO_STATUS);
}

static void serve_terminal(struct shim *shim, const struct pollfd *polls)
{
    struct stream *stream = &shim->streams[TTY];
    struct terminal *terminal = shim->terminal;
    bool had = terminal->master >= 0;

    terminal_serve(terminal, polls, drain_terminal, shim);
    if (!had && terminal->master >= 0) stream->fd = terminal->master;
    if (stream->fd >= 0) show_begun(shim);
    /* It was closed at its end. */
    if (had && stream->fd < 0) terminal->master = -1;
    if (is_over(shim)) terminal_end(terminal);
}

static void serve(struct shim *shim, int signals)
{
    /* Signals, the streams, and what a terminal has. */
    struct pollfd polls[1 + STREAMS + TERMINAL_POLLS];
    struct signalfd_siginfo info;
    nfds_t count = 1 + STREAMS;

    if (shim->terminal) count += TERMINAL_POLLS;
    for (;;) {
        bool open = false;

        polls[0] = (struct pollfd){.fd = signals, .events = POLLIN};
        for (size_t i = 0; i < STREAMS; i++) {
            polls[1 + i] = (struct pollfd){.fd = shim->streams[i].fd, .events = POLLIN};
            open |= shim->streams[i].fd >= 0;
        }
        if (is_over(shim) && !open) return;
        if (shim->terminal) terminal_wait(shim->terminal, polls + 1 + STREAMS);
        if (poll(polls, count, -1) < 0 && errno != EINTR) return;
        for (size_t i = 0; i < STREAMS; i++)
            if (polls[1 + i].revents) drain(shim, &shim->streams[i]);
        if (polls[0].revents && read(signals, &info, sizeof info) > 0) {
            reap(shim);
            if (info.ssi_signo == SIGUSR1) flush(shim);
        }
        if (shim->terminal) serve_terminal(shim, polls + 1 + STREAMS);
    }
}

static int prepare_signals(void)
{
    sigset_t wanted;

    setsid();
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGUSR1);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    return signalfd(-1, &wanted, SFD_CLOEXEC);
}

int shim_main(int argc, char **argv)
{
    static struct shim shim = {.log = -1, .runc_status = NO_STATUS, .init_status = NO_STATUS, .init = -1};
    static struct terminal terminal;
    int out[2], err[2], signals, own = 0;

    if (argc > 0 && strcmp(argv[0], "--terminal") == 0) own = 1;
    if (argc - own < 4 || strcmp(argv[own + 2], "--") != 0) return 2;
    shim.container = argv[own];
    shim.job = argv[own + 1];
    if (own) shim.terminal = &terminal;
    signals = prepare_signals();
    if (signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) return 1;
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) return 1;
    if (shim.terminal && terminal_listen(shim.terminal, shim.container, shim.job) < 0) return 1;
    shim.streams[OUT] = (struct stream){.name = "stdout", .fd = out[0]};
    shim.streams[ERR] = (struct stream){.name = "stderr", .fd = err[0]};
    shim.streams[TTY] = (struct stream){.name = "stdout", .fd = -1};
    write_number(shim.job, "pid", getpid());
    shim.runc = start(argv + own + 3, out[1], err[1]);
    if (shim.runc < 0) return 1;
    close(out[1]);
    close(err[1]);
    serve(&shim, signals);
    return 0;
}

pid_t start_job(const char *job, char **argv)
{
    char path[PATH_MAX];
    int output;

    setsid();
    signal(SIGHUP, SIG_IGN);
    snprintf(path, sizeof path, "%s/output", job);
    output = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0640);
    if (output < 0) return -errno;
    write_number(job, "pid", getpid());
    return start(argv, output, output);
}

int job_main(int argc, char **argv)
{
    int status;
    pid_t pid;

    if (argc < 3 || strcmp(argv[1], "--") != 0) return 2;
    pid = start_job(argv[0], argv + 2);
    if (pid < 0) return 1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return 1;
    write_number(argv[0], "status", exit_code(status));
    return 0;
}
