/*
 * odd KIND...: holds things that cannot be moved: aio, io_uring, userfaultfd, memfd_secret, fanotify, mptcp,
 * alg, vsock, namespaces, personality, inheritable. What this kernel does not give is left out.
 *
 * Output: "odd ready has=KIND,KIND", with a comma at the end.
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
enum { UFFD_FOR_USER_MODE_ONLY = 1 };

static long open_aio(void)
{
    static aio_context_t context;

    return syscall(SYS_io_setup, 8, &context);
}

static long open_io_uring(void)
{
    static struct io_uring_params params;

    return syscall(SYS_io_uring_setup, 4, &params);
}

static long open_userfaultfd(void)
{
    return syscall(SYS_userfaultfd, UFFD_FOR_USER_MODE_ONLY);
}

static long open_memfd_secret(void)
{
    long fd = syscall(SYS_memfd_secret, 0);

    if (fd < 0 || ftruncate((int)fd, PAGE_BYTES)) return -1;
    return mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, (int)fd, 0) == MAP_FAILED ? -1 : fd;
}

static long open_fanotify(void)
{
    return fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID, 0);
}

static long open_mptcp(void)
{
    return socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
}

static long open_alg(void)
{
    return socket(AF_ALG, SOCK_SEQPACKET, 0);
}

static long open_vsock(void)
{
    return socket(AF_VSOCK, SOCK_STREAM, 0);
}

/* A child that lives in a user, UTS and IPC namespace of its own; its child has a PID namespace besides. */
static long open_namespaces(void)
{
    int ready[2];
    char done = 0;
    pid_t child;

    if (pipe(ready)) return -1;
    child = fork();
    if (child == 0) {
        done = unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID) == 0;
        if (done && fork() == 0)
            for (;;) pause();
        if (write(ready[1], &done, 1) != 1 || !done) _exit(1);
        for (;;) pause();
    }
    if (child < 0 || read(ready[0], &done, 1) != 1) return -1;
    return done ? 0 : -1;
}

static long set_personality(void)
{
    return personality(ADDR_NO_RANDOMIZE);
}

/* A capability that its programs would inherit, and that it may not have itself. */
static long set_inheritable(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data)) return -1;
    data[0].inheritable |= 1U << CAP_KILL;
    return syscall(SYS_capset, &header, data) ? -1 : prctl(PR_CAPBSET_DROP, CAP_KILL);
}

static const struct {
    const char *name;
    long (*open)(void);
} kinds[] = {
    {"aio", open_aio},
    {"io_uring", open_io_uring},
    {"userfaultfd", open_userfaultfd},
    {"memfd_secret", open_memfd_secret},
    {"fanotify", open_fanotify},
    {"mptcp", open_mptcp},
    {"alg", open_alg},
    {"vsock", open_vsock},
    {"namespaces", open_namespaces},
    {"personality", set_personality},
    {"inheritable", set_inheritable},
};

int main(int argc, char **argv)
{
    char has[256] = "";

    workload_init();
    for (int i = 1; i < argc; i++)
        for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
            if (strcmp(kinds[kind].name, argv[i]) != 0) continue;
            if (kinds[kind].open() < 0) continue;
            strcat(has, argv[i]);
            strcat(has, ",");
        }
    say("odd ready has=%s", has);
    for (;;) {
        rest_us(100000);
        if (verify_requested()) say("verify ok");
    }
}
