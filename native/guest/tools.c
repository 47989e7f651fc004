/*
 * Programs that stand before the stock ones in the PATH of runc and CRIU where a warp starts them (agent/quick-tools.ts). The
 * container stands still meanwhile, and it pays for each program that is started.
 *
 *   criu  runc starts a CRIU to ask it for its version before it starts the one that does the work (libcontainer/
 *         container_linux.go, checkCriuVersion). That answer is on file. For a dump or a restore of a migration somebody
 *         steps between the two (swrk.c); all else is CRIU's own business.
 *   tar   CRIU packs each tmpfs by `tar --gzip` (criu/filesystems.c, tmpfs_dump), and tar starts a shell and gzip, which takes
 *         many times as long as to copy it. It is not compressed where there is room for it: a warp does not send it through
 *         anything narrow. Archives that are compressed get unpacked as ever.
 *
 * MWARP_CRIU and MWARP_TAR name the stock programs, MWARP_CRIU_VERSION the file with the answer, MWARP_IMAGES the directory of a
 * migration's images. MWARP_HANDOVER is the library of native/criu, MWARP_STAGE and MWARP_TERMINAL are what it is for. MWARP_CGROUP is
 * the control group that a CRIU which restores is to be in.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_BYTES 512
/* What the archive of a tmpfs may take of the memory that a guest has free: as much of the other guest's is taken, too. */
#define ROOM_PART 2

/* A criu_req of nothing but its type, VERSION (images/rpc.proto). */
static const unsigned char version_request[] = {0x08, 0x0a};
/* How a criu_resp to it begins that says success. */
static const unsigned char version_success[] = {0x08, 0x0a, 0x10, 0x01};

static int run_stock(const char *variable, char **argv)
{
    const char *program = getenv(variable);

    if (program) execv(program, argv);
    fprintf(stderr, "%s, which %s is to name, cannot be started: %s\n", argv[0], variable,
            program ? strerror(errno) : "it is not set");
    return 127;
}

/* The answer on file, unless the program is newer. Returns its bytes, or 0. */
static size_t kept_answer(char *answer, size_t size)
{
    const char *program = getenv("MWARP_CRIU"), *file = getenv("MWARP_CRIU_VERSION");
    struct stat criu, kept;
    ssize_t bytes;
    int fd;

    if (!program || !file || stat(program, &criu) != 0) return 0;
    fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    bytes = fstat(fd, &kept) == 0 ? read(fd, answer, size) : -1;
    close(fd);
    if (bytes < (ssize_t)sizeof version_success || criu.st_ctim.tv_sec > kept.st_mtim.tv_sec) return 0;
    if (criu.st_ctim.tv_sec == kept.st_mtim.tv_sec && criu.st_ctim.tv_nsec >= kept.st_mtim.tv_nsec) return 0;
    return (size_t)bytes;
}

/* Of a restore: into the container's control group, where the runtime has not done that (crun). It is left again at pre-resume. */
static int enter_group(void)
{
    const char *group = getenv("MWARP_CGROUP");
    char path[PATH_MAX], pid[16];

    if (!group) return 0;
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    snprintf(pid, sizeof pid, "%d", getpid());
    return write_text(path, pid);
}

int criu_main(int argc, char **argv)
{
    char request[sizeof version_request + 1], answer[ANSWER_BYTES];
    const char *images = getenv("MWARP_IMAGES");
    size_t bytes;
    int error;

    if (argc == 3 && strcmp(argv[1], "swrk") == 0 && (bytes = kept_answer(answer, sizeof answer)) > 0) {
        int server = atoi(argv[2]);
        /* Only looked at: what is not for us is still there for CRIU. */
        ssize_t got = recv(server, request, sizeof request, MSG_PEEK);

        if (got == sizeof version_request && memcmp(request, version_request, sizeof version_request) == 0) {
            recv(server, request, sizeof request, 0);
            return send(server, answer, bytes, MSG_NOSIGNAL) == (ssize_t)bytes ? 0 : 1;
        }
    }
    if (argc == 3 && strcmp(argv[1], "swrk") == 0 && images && between_is_wanted(atoi(argv[2]))) {
        error = swrk_stand_between(atoi(argv[2]), images);
        if (error < 0) {
            fprintf(stderr, "nobody could step between runc and CRIU: %s\n", strerror(-error));
            return 1;
        }
        error = enter_group();
        if (error < 0) {
            fprintf(stderr, "CRIU could not be put into the container's control group: %s\n",
                    strerror(-error));
            return 1;
        }
        /* Memory for the container is staged by CRIU itself, in the container's cgroup. */
        if (getenv("MWARP_HANDOVER") && (getenv("MWARP_STAGE") || getenv("MWARP_TERMINAL")))
            setenv("LD_PRELOAD", getenv("MWARP_HANDOVER"), 1);
    }
    return run_stock("MWARP_CRIU", argv);
}

/* Asks a CRIU as runc would. Returns the bytes of its answer, or a negative errno. */
static ssize_t ask_version(char *program, char *answer, size_t size)
{
    char number[16];
    char *argv[] = {program, "swrk", number, NULL};
    int ends[2], status;
    ssize_t bytes;
    pid_t child;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) return -errno;
    snprintf(number, sizeof number, "%d", ends[1]);
    child = fork();
    if (child < 0) return -errno;
    if (child == 0) {
        int nothing = open("/dev/null", O_RDWR);

        /* Whoever reads our output must not have to wait for a CRIU that hangs. */
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) dup2(nothing, fd);
        close(ends[0]);
        execv(program, argv);
        _exit(127);
    }
    close(ends[1]);
    bytes = send(ends[0], version_request, sizeof version_request, MSG_NOSIGNAL) < 0
                ? -errno
                : recv(ends[0], answer, size, 0);
    if (bytes < 0) bytes = -errno;
    close(ends[0]);
    if (waitpid(child, &status, 0) < 0) return -errno;
    return bytes;
}

int criu_version_main(int argc, char **argv)
{
    char answer[ANSWER_BYTES], fresh[256];
    ssize_t bytes;
    int fd, error;

    if (argc != 2 || strlen(argv[1]) + sizeof ".new" > sizeof fresh) return 2;
    bytes = ask_version(argv[0], answer, sizeof answer);
    if (bytes < (ssize_t)sizeof version_success || bytes == sizeof answer ||
        memcmp(answer, version_success, sizeof version_success) != 0) {
        fprintf(stderr, "%s did not say its version\n", argv[0]);
        return 1;
    }
    snprintf(fresh, sizeof fresh, "%s.new", argv[1]);
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    error = fd < 0 ? -errno : write_all(fd, answer, (size_t)bytes);
    if (fd >= 0) close(fd);
    if (error == 0 && rename(fresh, argv[1]) != 0) error = -errno;
    if (error != 0) fprintf(stderr, "%s: %s\n", argv[1], strerror(-error));
    return error == 0 ? 0 : 1;
}

/* Whether standard input is at the start of what gzip wrote (RFC 1952). */
static int is_compressed(void)
{
    unsigned char magic[2];
    off_t at = lseek(STDIN_FILENO, 0, SEEK_CUR);

    return at >= 0 && pread(STDIN_FILENO, magic, 2, at) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
}

/* Bytes, or 0 where the kernel does not say. */
static uint64_t available_memory(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");

    while (file && kib == 0 && fgets(line, sizeof line, file)) sscanf(line, "MemAvailable: %llu kB", &kib);
    if (file) fclose(file);
    return kib * 1024;
}

/* Whether there is room for what the file system holds whose directory standard input is (statfs(2)). */
static int has_room(void)
{
    struct statfs fs;

    return fstatfs(STDIN_FILENO, &fs) == 0 &&
           (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize <= available_memory() / ROOM_PART;
}

int tar_main(int argc, char **argv)
{
    int kept = 1, extracts = 0, i;

    for (i = 1; i < argc; i++) extracts |= strcmp(argv[i], "--extract") == 0;
    if (extracts ? !is_compressed() : has_room()) {
        for (i = 1; i < argc; i++)
            if (strcmp(argv[i], "--gzip") != 0) argv[kept++] = argv[i];
        argv[kept] = NULL;
    }
    return run_stock("MWARP_TAR", argv);
}
