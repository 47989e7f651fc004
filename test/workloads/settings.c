/*
 * settings: three tasks, each with settings of its own, which look at everything that the kernel says of their settings, and look
 * again when asked: what has changed is BAD. What a setting does is tried besides, where that changes nothing.
 *
 * Output: "settings ready tasks=N items=N"; "verify ok tasks=N" or "verify BAD TASK ITEM: was X, is Y" for each that changed.
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_GET_MDWE
#define PR_SET_MDWE         65
#define PR_GET_MDWE         66
#endif
#ifndef PR_GET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#define MOST_ITEMS 400
#define ITEM_BYTES 240

struct item {
    char name[100], value[ITEM_BYTES];
};
struct look {
    size_t count;
    struct item items[MOST_ITEMS];
};

static void note(struct look *look, const char *name, const char *value)
{
    struct item *item = &look->items[look->count++];

    if (look->count == MOST_ITEMS) die("more settings than there is room for");
    snprintf(item->name, sizeof item->name, "%s", name);
    snprintf(item->value, sizeof item->value, "%s", value);
}

static void note_number(struct look *look, const char *name, long value)
{
    char text[32];

    snprintf(text, sizeof text, "%ld", value);
    note(look, name, text);
}

static char *slurp(const char *path)
{
    static char text[65536];
    int fd = open(path, O_RDONLY);
    ssize_t bytes = 0, n;

    if (fd < 0) return NULL;
    while ((n = read(fd, text + bytes, sizeof text - 1 - (size_t)bytes)) > 0) bytes += n;
    close(fd);
    text[bytes] = 0;
    return text;
}

static void note_file(struct look *look, const char *path)
{
    char *text = slurp(path);

    for (char *c = text; c && *c; c++)
        if (*c == '\n' || *c == 0) *c = '|';
    note(look, path, text ? text : "-");
}

/* Each line of a file an item of its own, named by what it begins with. */
static void note_lines(struct look *look, const char *path, const char *const *wanted)
{
    char *text = slurp(path), *line, *rest;

    for (line = strtok_r(text ? text : (char[]){""}, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char name[100];

        snprintf(name, sizeof name, "%.20s %.20s", strrchr(path, '/') + 1, line);
        if (!wanted) note(look, name, line);
        for (size_t i = 0; wanted && wanted[i]; i++)
            if (strncmp(line, wanted[i], strlen(wanted[i])) == 0) note(look, wanted[i], line);
    }
}

/* By place, kind and options: ids of mounts and devices are the kernel's own business. */
static void note_mounts(struct look *look)
{
    char *text = slurp("/proc/self/mountinfo"), *line, *rest;

    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char root[80], place[80], options[80], super[200], kind[40], name[100], value[ITEM_BYTES];
        char *tail = strstr(line, " - "), *tags;
        int end;

        if (!tail || sscanf(line, "%*d %*d %*s %79s %79s %79s%n", root, place, options, &end) != 3) continue;
        *tail = 0;
        tags = line + end;
        if (sscanf(tail + 3, "%39s %*s %199s", kind, super) != 2) continue;
        /* Where the writable layer lies may differ, and nsdelegate is a setting of the whole VM. */
        if (strcmp(kind, "overlay") == 0) strcpy(super, strncmp(super, "ro", 2) ? "rw" : "ro");
        if (strcmp(kind, "cgroup2") == 0) *super = 0;
        /* What is masked by an empty device file is so by the container's own at first, by the VM's after a restore. */
        if (strcmp(root, "/null") == 0) *options = *tags = *kind = *super = 0;
        for (char *id = tags; *id; id++)
            if (*id >= '0' && *id <= '9') *id = '#';
        snprintf(name, sizeof name, "mount %s", place);
        snprintf(value, sizeof value, "%s %s%s %s %s", root, options, tags, kind, super);
        note(look, name, value);
    }
}

static void note_attempts(struct look *look)
{
    /* Filtered by this program itself (see main). */
    note(look, "mkdir under the filter", mkdir("/tmp/never", 0700) && errno != EEXIST ? strerror(errno) : "done");
    note(look, "write below /sys", open("/sys/kernel/uevent_helper", O_WRONLY) < 0 ? strerror(errno) : "done");
    note(look, "write below /proc/sys", open("/proc/sys/kernel/sysrq", O_WRONLY) < 0 ? strerror(errno) : "done");
    note(look, "read of /proc/kcore", slurp("/proc/kcore") ? "done" : strerror(errno));
    /* A block device that was not allowed (main makes the node). */
    note(look, "open of a device", open("/dev/forbidden", O_RDONLY) < 0 ? strerror(errno) : "done");
    note(look, "sethostname", sethostname("other", 5) ? strerror(errno) : "done");
}

static void look_around(struct look *look)
{
    static const char *const status[] = {"Name:", "Umask:", "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:",
                                         "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:",
                                         "SigBlk:", "SigIgn:", "SigCgt:", "THP_enabled:", "NSpid:", "NSpgid:", "NSsid:", NULL};
    static const struct {
        const char *name;
        int option;
    } prctls[] = {
        {"dumpable", PR_GET_DUMPABLE},          {"keep capabilities", PR_GET_KEEPCAPS},
        {"securebits", PR_GET_SECUREBITS},      {"timer slack", PR_GET_TIMERSLACK},
        {"no_new_privs", PR_GET_NO_NEW_PRIVS},  {"THP off", PR_GET_THP_DISABLE},
        {"memory errors", PR_MCE_KILL_GET},     {"I/O flusher", PR_GET_IO_FLUSHER},
        {"speculation", PR_GET_SPECULATION_CTRL}, {"merging of pages", PR_GET_MEMORY_MERGE},
        {"no executable memory", PR_GET_MDWE},
    };
    static const char *const files[] = {
        "/proc/self/oom_score_adj", "/proc/self/coredump_filter", "/proc/self/environ", "/proc/self/cmdline",
        "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups", "/proc/self/cgroup",
        "/proc/self/attr/current", "/proc/self/personality", "/proc/self/loginuid",
        "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/shmmni",
        "/proc/sys/kernel/shm_rmid_forced", "/proc/sys/kernel/msgmax", "/proc/sys/kernel/msgmnb", "/proc/sys/kernel/sem",
        "/proc/sys/fs/mqueue/msg_max", "/proc/sys/net/core/somaxconn", "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sys/net/ipv4/tcp_keepalive_time", "/proc/sys/net/ipv4/ping_group_range", "/proc/sys/net/ipv4/tcp_syncookies",
        "/proc/sys/net/ipv6/conf/all/forwarding", "/proc/sys/net/ipv4/conf/eth0/rp_filter",
    };
    struct sched_param parameters;
    cpu_set_t cpus;
    char cwd[200];
    int value;

    look->count = 0;
    note_lines(look, "/proc/self/status", status);
    note_lines(look, "/proc/self/limits", NULL);
    for (size_t i = 0; i < sizeof prctls / sizeof *prctls; i++)
        note_number(look, prctls[i].name, prctl(prctls[i].option, 0, 0, 0, 0));
    prctl(PR_GET_PDEATHSIG, &value);
    note_number(look, "signal at the parent's death", value);
    prctl(PR_GET_CHILD_SUBREAPER, &value);
    note_number(look, "child subreaper", value);
    note_number(look, "niceness", getpriority(PRIO_PROCESS, 0));
    note_number(look, "scheduling policy", sched_getscheduler(0));
    note_number(look, "real-time priority", sched_getparam(0, &parameters) ? -1 : parameters.sched_priority);
    note_number(look, "processors", sched_getaffinity(0, sizeof cpus, &cpus) ? -1 : CPU_COUNT(&cpus));
    note_number(look, "I/O priority", syscall(SYS_ioprio_get, 1, 0));
    note_number(look, "personality", personality(0xffffffff));
    note(look, "working directory", getcwd(cwd, sizeof cwd) ? cwd : strerror(errno));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) note_file(look, files[i]);
    note_mounts(look);
    note_attempts(look);
}

static struct look before, now;
static char task[16] = "init";

/* Mounts may be listed in another order; of those at one place the order says which is on top. */
static const struct item *find(const struct look *look, const struct item *wanted, size_t index)
{
    size_t nth = 0;

    for (size_t i = 0; i < index; i++) nth += strcmp(before.items[i].name, wanted->name) == 0;
    for (size_t i = 0; i < look->count; i++)
        if (strcmp(look->items[i].name, wanted->name) == 0 && nth-- == 0) return &look->items[i];
    return NULL;
}

static void compare(void)
{
    int bad = 0;

    look_around(&now);
    for (size_t i = 0; i < before.count; i++) {
        const struct item *was = &before.items[i], *is = find(&now, was, i);

        if (is && strcmp(is->value, was->value) == 0) continue;
        bad = 1;
        say("%s BAD %s: was %s, is %s", task, was->name, was->value, is ? is->value : "gone");
    }
    if (!bad && now.count == before.count) say("%s verify ok items=%zu", task, now.count);
    else say("%s verify BAD items=%zu of %zu", task, now.count, before.count);
}

/* Those that nobody grants in this kernel or container stay as they are: what matters is that they stay. */
static void set_first(void)
{
    struct sched_param none = {0};

    setpriority(PRIO_PROCESS, 0, 7);
    umask(0137);
    if (chdir("/etc")) die("chdir: %s", strerror(errno));
    prctl(PR_SET_NAME, "renamed one");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_TIMERSLACK, 123456);
    sched_setscheduler(0, SCHED_BATCH, &none);
    syscall(SYS_ioprio_set, 1, 0, (2 << 13) | 6);
    setrlimit(RLIMIT_CORE, &(struct rlimit){4096, 8192});
    setrlimit(RLIMIT_NPROC, &(struct rlimit){77, 777});
    setrlimit(RLIMIT_STACK, &(struct rlimit){1 << 20, 4 << 20});
}

/* From what it may have at all, and what its programs would inherit: CRIU cannot give back the second without the first. */
static void drop_capability(int capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data)) die("capget: %s", strerror(errno));
    data[0].inheritable &= ~(1u << capability);
    if (syscall(SYS_capset, &header, data) || prctl(PR_CAPBSET_DROP, capability)) die("capset: %s", strerror(errno));
}

static void set_second(void)
{
    struct sched_param none = {0};

    prctl(PR_SET_PDEATHSIG, SIGUSR2);
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    sched_setscheduler(0, SCHED_IDLE, &none);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){123, 456});
    drop_capability(CAP_SETPCAP);
    if (setgroups(2, (gid_t[]){33, 44})) die("setgroups: %s", strerror(errno));
}

static void filter_mkdir(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdir, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOWNERDEAD),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        die("seccomp: %s", strerror(errno));
}

/* A user of his own, with one capability left that a program of his would not have. */
static void set_third(void)
{
    filter_mkdir();
    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (setresgid(1000, 1001, 1001) || setresuid(1000, 1000, 1000)) die("setresuid: %s", strerror(errno));
}

static pid_t spawn(const char *name, void (*settings)(void))
{
    pid_t child = fork();

    if (child) return child;
    snprintf(task, sizeof task, "%s", name);
    settings();
    look_around(&before);
    say("%s looked items=%zu", name, before.count);
    for (;;) {
        rest_us(20000);
        if (verify_requested()) compare();
    }
}

int main(void)
{
    pid_t children[2];

    workload_init();
    if (mknod("/dev/forbidden", S_IFBLK | 0666, 254 << 8)) die("mknod: %s", strerror(errno));
    set_first();
    children[0] = spawn("second", set_second);
    children[1] = spawn("third", set_third);
    look_around(&before);
    say("init looked items=%zu", before.count);
    rest_us(1500000);
    say("settings ready tasks=3");
    for (;;) {
        rest_us(20000);
        if (!verify_requested()) continue;
        for (int i = 0; i < 2; i++) kill(children[i], SIGUSR1);
        rest_us(1000000);
        compare();
    }
}
