/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kmod-test MODULE [--seconds N] [--loads N] [GROUP...], as root in a VM of its own: loads the module and
 * runs the tests, each in a process and with a look at the kernel log afterwards. One line each: "ok GROUP:
 * NAME" (and what it has to say), "skipped GROUP: NAME" or "not ok GROUP: NAME". `kmod-test MODULE bench`
 * measures.
 */
#define _GNU_SOURCE
#include "kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIME_LIMIT = 300, OUTPUT = 4096, WARNING = 4 };

static const struct {
    const char *name;
    const struct test *tests;
    bool only_by_name;
} groups[] = {
    {"basic", basic_tests, false}, {"refusals", refusal_tests, false}, {"held", held_tests, false},
    {"huge", huge_tests, false},   {"table", table_tests, false},      {"kvm", kvm_tests, false},
    {"races", race_tests, false},  {"faults", fault_tests, true},
};

static const char *module_file;
static int module_loads = 20;
static int log_fd = -1;
static int failed;

static void load_module(void)
{
    int fd = open(module_file, O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0, "%s: errno %d", module_file, errno);
    CHECK(syscall(SYS_finit_module, fd, "", 0) == 0, "errno %d", errno);
    close(fd);
}

static void unload_module(void)
{
    CHECK(syscall(SYS_delete_module, "mwarp", O_NONBLOCK) == 0, "errno %d", errno);
}

/* Said of every module that the kernel's builder has not signed, and of machines that are emulated slowly. */
static bool is_harmless(const char *text)
{
    static const char *const words[] = {"taint", "hrtimer: interrupt took", "clocksource:", "TSC"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strstr(text, words[i])) return true;
    return false;
}

/* Appends what the kernel has said since the last call, of warnings and worse. */
static void read_log(char *to, size_t room)
{
    char record[2048];
    ssize_t got;

    while ((got = read(log_fd, record, sizeof record - 1)) > 0 || errno == EPIPE) {
        if (got <= 0) continue;
        record[got] = 0;
        char *text = strchr(record, ';');
        bool bad = (strtoul(record, NULL, 10) & 7) <= WARNING || strstr(record, "Call Trace");

        if (!bad || !text || is_harmless(text)) continue;
        size_t used = strlen(to);
        snprintf(to + used, room - used, "kernel: %s", text + 1);
    }
}

static void report(const char *group, const char *name, int status, char *output)
{
    bool passed = WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 4);
    char log[OUTPUT] = "";

    read_log(log, sizeof log);
    if (log[0]) passed = false;
    for (char *c = output; *c; c++)
        if (*c == '\n') *c = ' ';
    if (!passed) failed = 1;
    printf("%s %s: %s", !passed ? "not ok" : WEXITSTATUS(status) == 4 ? "skipped" : "ok", group, name);
    if (output[0]) printf(" (%s)", output);
    if (!WIFEXITED(status)) printf(" [status %x]", (unsigned)status);
    printf("\n%s", log);
    fflush(stdout);
}

/* In a group of processes of its own, all of which end with it. */
static void run_test(const char *group, const struct test *test)
{
    char output[OUTPUT] = "";
    int ends[2], status = 0;
    size_t used = 0;
    ssize_t got;

    if (pipe2(ends, O_CLOEXEC) != 0) abort();
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        dup2(ends[1], 2);
        alarm((unsigned)(TIME_LIMIT + race_seconds + module_loads));
        test->run();
        _exit(0);
    }
    close(ends[1]);
    while ((got = read(ends[0], output + used, sizeof output - 1 - used)) > 0) used += (size_t)got;
    output[used] = 0;
    close(ends[0]);
    waitpid(pid, &status, 0);
    kill(-pid, SIGKILL);
    report(group, test->name, status, output);
}

static void exchange_for_ever(void *argument)
{
    struct files files = make_files(512);
    struct mwarp_table_create create = {.file = files.a};
    struct mwarp_extent extent = {.a = 0, .b = 0, .pages = 256};
    struct mwarp_table_fill fill = {.extents = (uintptr_t)&extent, .count = 1};

    (void)argument;
    CHECK(ioctl(ioctl(files.device, MWARP_IOC_TABLE_CREATE, &create), MWARP_IOC_TABLE_FILL, &fill) == 256);
    for (;;) exchange(&files, 256, 256, 256);
}

/* Loaded, used, its users killed, unloaded; not unloaded while anybody has it open. */
static void loads(void)
{
    long before = 0;
    uint32_t spread = 1;

    unload_module();
    for (int round = 0; round < module_loads; round++) {
        pid_t users[2];

        load_module();
        for (int i = 0; i < 2; i++) users[i] = start(exchange_for_ever, NULL);
        int device = open("/dev/mwarp", O_RDWR | O_CLOEXEC);
        CHECK(device >= 0);
        CHECK(syscall(SYS_delete_module, "mwarp", O_NONBLOCK) == -1 && errno == EWOULDBLOCK, "errno %d",
              errno);
        close(device);
        usleep(spread = spread * 1103515245 % 30000);
        for (int i = 0; i < 2; i++)
            CHECK(kill(users[i], SIGKILL) == 0 && waitpid(users[i], NULL, 0) == users[i]);
        unload_module();
        /* All that the files had is free: nothing kept a reference. */
        if (round == 0)
            before = meminfo("Shmem");
        else
            CHECK(meminfo("Shmem") - before < 1024, "%ld kB, then %ld kB", before, meminfo("Shmem"));
    }
    load_module();
}

int main(int count, char **arguments)
{
    static const struct test load_test = {
        "the module is loaded, used, its users killed, and unloaded, many times", loads};
    bool all = true;

    if (count < 2) return 2;
    module_file = arguments[1];
    log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (log_fd < 0 || lseek(log_fd, 0, SEEK_END) < 0) return 2;
    load_module();
    for (int i = 2; i < count; i++) {
        if (strcmp(arguments[i], "bench") == 0) return bench();
        if (strcmp(arguments[i], "--seconds") == 0 && i + 1 < count)
            race_seconds = atoi(arguments[++i]);
        else if (strcmp(arguments[i], "--loads") == 0 && i + 1 < count)
            module_loads = atoi(arguments[++i]);
        else
            all = false;
    }
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        bool wanted = all && !groups[g].only_by_name;

        for (int i = 2; i < count; i++) wanted |= strcmp(arguments[i], groups[g].name) == 0;
        for (const struct test *test = groups[g].tests; wanted && test->name; test++)
            run_test(groups[g].name, test);
    }
    for (int i = 2; i < count; i++) all |= strcmp(arguments[i], "load") == 0;
    if (all) run_test("load", &load_test);
    unload_module();
    printf("%s\n", failed ? "some tests failed" : "all tests passed");
    return failed;
}
