/*
 * What CRIU does with the terminal of a container's session, as far as the library in it has to do with that
 * (native/criu/terminal.c): init of a new PID namespace begins its session, makes the first terminal of a new devpts
 * with the mounts, and forks. Run with `unshare --pid --fork --mount`. Prints what a task that was forked has of the
 * terminal, and how many descriptors init has open in the end. With a second argument the session begins last.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void fork_task(pid_t wanted)
{
    struct clone_args arguments = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&wanted, .set_tid_size = 1};
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);

    if (pid == 0) {
        printf("a task %s\n", open("/dev/tty", O_RDWR | O_NOCTTY) >= 0 ? "has it" : "has none");
        fflush(stdout);
        _exit(0);
    }
    if (pid < 0) perror("clone3");
    waitpid((pid_t)pid, NULL, 0);
}

int main(int argc, char **argv)
{
    char path[256];
    unsigned index;
    int master, open_fds = 0;

    if (argc < 2 || getpid() != 1) return 2;
    if (argc == 2 && setsid() != 1) return perror("setsid"), 1;
    if (mount("devpts", argv[1], "devpts", 0, "newinstance,ptmxmode=0666")) return perror("devpts"), 1;
    if (mount("proc", "/proc", "proc", 0, NULL)) return perror("proc"), 1;
    snprintf(path, sizeof path, "%s/ptmx", argv[1]);
    master = open(path, O_RDWR | O_NOCTTY);
    if (master < 0 || ioctl(master, TIOCGPTN, &index)) return perror("ptmx"), 1;
    fork_task(30);
    for (int fd = 3; fd < 64; fd++) open_fds += fcntl(fd, F_GETFD) >= 0;
    printf("index %u open=%d\n", index, open_fds);
    return 0;
}
