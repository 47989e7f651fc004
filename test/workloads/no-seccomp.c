/*
 * no-seccomp COMMAND...: runs a command for which, and for whose children, the kernel takes no further
 * seccomp filter: what a kernel without one of a filter's features would do. For root.
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field)               BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SKIP_UNLESS(value, steps) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, steps)
#define END(action)               BPF_STMT(BPF_RET | BPF_K, action)

int main(int argc, char **argv)
{
    struct sock_filter filter[] = {
        LOAD(nr),
        SKIP_UNLESS(SYS_seccomp, 3),
        LOAD(args[0]),
        SKIP_UNLESS(SECCOMP_SET_MODE_FILTER, 5),
        END(SECCOMP_RET_ERRNO | EINVAL),
        SKIP_UNLESS(SYS_prctl, 3),
        LOAD(args[0]),
        SKIP_UNLESS(PR_SET_SECCOMP, 1),
        END(SECCOMP_RET_ERRNO | EINVAL),
        END(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};

    if (argc < 2) die("usage: no-seccomp COMMAND...");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) die("seccomp: %s", strerror(errno));
    execvp(argv[1], argv + 1);
    die("%s: %s", argv[1], strerror(errno));
}
