/*
 * terminal lines|keys: a session on its terminal, as a shell has it: a job in the background that counts, all
 * the time, and one in the foreground, which types nothing and reads nothing before there is a file /go.
 * `keys` sets the terminal as an editor would. An interrupt flushes nothing (NOFLSH): the kernel would throw away what is on its way out.
 *
 * Output: "count N", one more each time; of the job in the foreground "terminal ready", "read BYTES" for each
 * read(2), "interrupt PID", "window ROWS COLUMNS" and, after SIGUSR1, "state ..." with all that the terminal
 * is set to. What it reads as "quit N" ends all with N.
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define COUNT_US 5000

static volatile sig_atomic_t interrupted, resized, asked;

static void on_signal(int signal)
{
    if (signal == SIGINT) interrupted = 1;
    if (signal == SIGWINCH) resized = 1;
    if (signal == SIGUSR1) asked = 1;
}

static void count(void)
{
    setpgid(0, 0);
    signal(SIGINT, SIG_DFL);
    for (unsigned long n = 1;; n++) {
        say("count %lu", n);
        usleep(COUNT_US);
    }
}

static void tell_state(void)
{
    struct termios set;
    struct winsize size;
    char characters[2 * NCCS + 1];

    if (tcgetattr(STDIN_FILENO, &set) || ioctl(STDIN_FILENO, TIOCGWINSZ, &size))
        die("terminal: %s", strerror(errno));
    for (size_t i = 0; i < NCCS; i++) sprintf(characters + 2 * i, "%02x", set.c_cc[i]);
    say("state pid=%d group=%d foreground=%d session=%d terminal=%s %x %x %x %x %s %u %u size=%dx%d",
        getpid(), getpgrp(), tcgetpgrp(STDIN_FILENO), tcgetsid(STDIN_FILENO), ttyname(STDIN_FILENO),
        set.c_iflag, set.c_oflag, set.c_cflag, set.c_lflag, characters, cfgetispeed(&set), cfgetospeed(&set),
        size.ws_row, size.ws_col);
}

static void tell_signals(void)
{
    struct winsize size;

    if (interrupted) say("interrupt %d", getpid());
    if (resized && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0) say("window %d %d", size.ws_row, size.ws_col);
    if (asked) tell_state();
    interrupted = resized = asked = 0;
}

static void set_terminal(bool keys)
{
    struct termios set;

    if (tcgetattr(STDIN_FILENO, &set)) die("terminal: %s", strerror(errno));
    set.c_lflag |= NOFLSH;
    if (keys) {
        set.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
        set.c_iflag &= ~(tcflag_t)(ICRNL | IXON);
        set.c_cc[VMIN] = 1;
        set.c_cc[VTIME] = 0;
        set.c_cc[VKILL] = 7;
    }
    if (tcsetattr(STDIN_FILENO, TCSANOW, &set)) die("terminal: %s", strerror(errno));
}

static void read_some(void)
{
    char bytes[8192], text[3 * sizeof bytes + 1], *at = text;
    ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes - 1);

    if (n < 0) {
        if (errno != EINTR && errno != EAGAIN) die("read: %s", strerror(errno));
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (bytes[i] > ' ' && bytes[i] <= '~' && bytes[i] != '%')
            *at++ = bytes[i];
        else
            at += sprintf(at, "%%%02x", (unsigned char)bytes[i]);
    }
    *at = '\0';
    say("read %s", text);
    bytes[n] = '\0';
    if (strncmp(bytes, "quit ", 5) == 0) _exit(atoi(bytes + 5));
}

static void job(bool keys)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t handled, none;

    setpgid(0, 0);
    if (tcsetpgrp(STDIN_FILENO, getpgrp())) die("foreground: %s", strerror(errno));
    sigemptyset(&none);
    sigemptyset(&handled);
    sigaddset(&handled, SIGINT);
    sigaddset(&handled, SIGWINCH);
    sigaddset(&handled, SIGUSR1);
    sigprocmask(SIG_BLOCK, &handled, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGWINCH, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    set_terminal(keys);
    say("terminal ready");
    for (;;) {
        bool go = access("/go", F_OK) == 0;
        struct pollfd wait = {.fd = go ? STDIN_FILENO : -1, .events = POLLIN};
        struct timespec longest = {.tv_nsec = 100000000};

        if (ppoll(&wait, 1, &longest, &none) > 0) read_some();
        tell_signals();
    }
}

int main(int argc, char **argv)
{
    int status = 0;
    pid_t counter, front;

    if (argc != 2) die("usage: terminal lines|keys");
    signal(SIGTTOU, SIG_IGN);
    /* A signal for the session's leader would be one for the wrong group: it ends everything. */
    signal(SIGINT, SIG_DFL);
    counter = fork();
    if (counter == 0) count();
    front = fork();
    if (front == 0) job(strcmp(argv[1], "keys") == 0);
    if (counter < 0 || front < 0) die("fork: %s", strerror(errno));
    while (waitpid(front, &status, 0) < 0 && errno == EINTR) {
    }
    kill(counter, SIGKILL);
    return WEXITSTATUS(status);
}
