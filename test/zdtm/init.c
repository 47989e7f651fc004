/*
 * zdtm-init NAME...: the first process of a container of CRIU's test programs (test/zdtm/static of its sources).
 *
 * Starts each program as ./NAME in the directory /zdtm/NAME, with the words of the file "command" there: "user" or
 * "root", then its arguments. Such a program says that it is ready by ending its first process, with the pid of the one that
 * stays in NAME.pid; it verifies on SIGTERM and leaves NAME.out with PASS in its last line. One for "user"
 * gives up root by itself, as test/zdtm.py asks for.
 *
 * Output: "NAME unstarted TEXT" for each that would not start, "zdtm-init ready programs=N"; after SIGUSR1
 * "NAME passed" or "NAME failed TEXT" for each that did, "zdtm-init verified".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_PROGRAMS = 512,
    MAX_ARGUMENTS = 32,
    LINE_BYTES = 4096,
    /* What of a program's own words goes into the container's log. */
    TEXT_BYTES = 600,
    /* Many programs start, or verify, side by side under emulation. */
    START_SECONDS = 60,
    VERIFY_SECONDS = 90,
};

struct program {
    char *name;
    bool user;
    char *arguments[MAX_ARGUMENTS];
    pid_t starter; /* until it has ended */
    pid_t pid;     /* 0: it did not start, or has ended */
    bool started;
};

static struct program programs[MAX_PROGRAMS];
static int program_count;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;

    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (length > (int)sizeof line - 2) length = sizeof line - 2;
    line[length] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)length + 1) < 0) _exit(3);
}

__attribute__((format(printf, 1, 2))) static _Noreturn void die(const char *format, ...)
{
    char text[LINE_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    say("zdtm-init: %s: %s", text, strerror(errno));
    exit(2);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void read_command(struct program *program, char *name)
{
    char line[LINE_BYTES];
    int count = 1;

    snprintf(line, sizeof line, "/zdtm/%s/command", name);
    FILE *file = fopen(line, "re");

    if (!file || !fgets(line, sizeof line, file)) die("/zdtm/%s/command", name);
    fclose(file);
    program->name = name;
    program->user = strcmp(strtok(line, " \n"), "user") == 0;
    if (asprintf(&program->arguments[0], "./%s", name) < 0) die("no memory");
    for (char *word; (word = strtok(NULL, " \n")) && count < MAX_ARGUMENTS - 1;)
        program->arguments[count++] = strdup(word);
}

/* In the child: the program's directory, what test/zdtm.py sets, and the program itself. */
static _Noreturn void run(const struct program *program)
{
    char directory[512];
    sigset_t none;

    snprintf(directory, sizeof directory, "/zdtm/%s", program->name);
    int errors = open("/dev/null", O_RDWR);

    if (chdir(directory)) die("%s", directory);
    int log = open("start.log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666);

    if (errors < 0 || log < 0) die("%s: start.log", directory);
    dup2(errors, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    close(errors);
    close(log);
    setenv("TMPDIR", "/tmp", 1);
    setenv("ZDTM_THREAD_BOMB", "5", 1);
    if (program->user) {
        setenv("ZDTM_UID", "18943", 1);
        setenv("ZDTM_GID", "58467", 1);
        setenv("ZDTM_GROUPS", "27495 48244", 1);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    execv(program->arguments[0], program->arguments);
    die("%s", program->name);
}

/* The end of a file of the program's directory as one line; empty when there is none. */
static void tail(const struct program *program, const char *suffix, char *text)
{
    char path[512];

    snprintf(path, sizeof path, "/zdtm/%s/%s", program->name, suffix);
    text[0] = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) return;
    off_t size = lseek(fd, 0, SEEK_END);
    off_t from = size > TEXT_BYTES - 1 ? size - (TEXT_BYTES - 1) : 0;
    ssize_t got = pread(fd, text, TEXT_BYTES - 1, from);

    close(fd);
    text[got < 0 ? 0 : got] = 0;
    for (char *at = text; *at; at++)
        if ((unsigned char)*at < ' ') *at = *(at + 1) ? ' ' : 0;
}

static pid_t read_pid(const struct program *program)
{
    char name[256];
    char text[TEXT_BYTES];

    snprintf(name, sizeof name, "%s.pid", program->name);
    tail(program, name, text);
    return (pid_t)atoi(text);
}

static void judge_start(struct program *program, int status)
{
    char text[TEXT_BYTES];

    program->pid = status == 0 ? read_pid(program) : 0;
    program->started = program->pid > 0;
    if (program->started) {
        /* One that could not wait for its end has been taken leave of before its pid was known. */
        if (kill(program->pid, 0)) program->pid = 0;
        return;
    }
    char out[256];

    snprintf(out, sizeof out, "%s.out.inprogress", program->name);
    tail(program, out, text);
    if (!*text) {
        snprintf(out, sizeof out, "%s.out", program->name);
        tail(program, out, text);
    }
    if (!*text) tail(program, "start.log", text);
    say("%s unstarted status %d: %s", program->name, status, text);
}

/* Takes leave of every child that has ended: the programs' first processes, and whatever they leave behind. */
static void reap(void)
{
    int status;

    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        for (int i = 0; i < program_count; i++) {
            if (programs[i].starter == pid) {
                programs[i].starter = 0;
                judge_start(&programs[i], status);
            }
            if (programs[i].pid == pid) programs[i].pid = 0;
        }
}

/* Waits until `pending` is true of no program, or for so many seconds. */
static void wait_while(bool (*pending)(const struct program *), int seconds)
{
    double end = now() + seconds;

    for (bool any = true; any && now() < end;) {
        any = false;
        reap();
        for (int i = 0; i < program_count; i++) any |= pending(&programs[i]);
        if (any) usleep(20000);
    }
}

static bool is_starting(const struct program *program)
{
    return program->starter != 0;
}

static bool is_running(const struct program *program)
{
    return program->pid != 0;
}

static void start_all(void)
{
    for (int i = 0; i < program_count; i++) {
        programs[i].starter = fork();
        if (programs[i].starter < 0) die("fork");
        if (programs[i].starter == 0) run(&programs[i]);
    }
    wait_while(is_starting, START_SECONDS);
    int started = 0;

    for (int i = 0; i < program_count; i++) {
        if (is_starting(&programs[i])) {
            kill(programs[i].starter, SIGKILL);
            say("%s unstarted not ready after %d s", programs[i].name, START_SECONDS);
            programs[i].starter = 0;
        }
        started += programs[i].started;
    }
    say("zdtm-init ready programs=%d", started);
}

static void judge(const struct program *program)
{
    char name[256];
    char text[TEXT_BYTES];

    snprintf(name, sizeof name, "%s.out", program->name);
    tail(program, name, text);
    char *last = strrchr(text, ' ');

    if (program->pid == 0 && strcmp(last ? last + 1 : text, "PASS") == 0) {
        say("%s passed", program->name);
        return;
    }
    if (!*text) {
        strcat(name, ".inprogress");
        tail(program, name, text);
    }
    say("%s failed %s%s", program->name, program->pid ? "(still running) " : "", text);
}

static void verify_all(void)
{
    for (int i = 0; i < program_count; i++)
        if (is_running(&programs[i])) kill(programs[i].pid, SIGTERM);
    wait_while(is_running, VERIFY_SECONDS);
    for (int i = 0; i < program_count; i++)
        if (programs[i].started) judge(&programs[i]);
    say("zdtm-init verified");
}

int main(int argc, char **argv)
{
    sigset_t signals;

    if (argc < 2 || argc - 1 > MAX_PROGRAMS) die("usage: zdtm-init NAME..., at most %d", MAX_PROGRAMS);
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    umask(0);
    for (program_count = 0; program_count < argc - 1; program_count++)
        read_command(&programs[program_count], argv[program_count + 1]);
    start_all();
    for (int caught; (caught = sigwaitinfo(&signals, NULL));) {
        reap();
        if (caught == SIGUSR1) verify_all();
    }
}
