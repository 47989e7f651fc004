/*
 * console SOCKET PIDFILE COMMAND...: what runc does for a container with a terminal and --console-socket,
 * without a container: runs COMMAND as leader of a session on a new pty and sends the master to whoever
 * listens at SOCKET.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int send_master(const char *path, int master)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char control[CMSG_SPACE(sizeof master)] = {0};
    struct iovec part = {(char[]){"ptmx"}, 4};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof master);
    memcpy(CMSG_DATA(header), &master, sizeof master);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return -1;
    return sendmsg(fd, &message, 0) < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    FILE *file;
    pid_t pid;

    if (argc < 4 || master < 0 || grantpt(master) || unlockpt(master)) return 1;
    if (send_master(argv[1], master)) return 1;
    pid = fork();
    if (pid == 0) {
        int slave = open(ptsname(master), O_RDWR | O_NOCTTY);

        setsid();
        ioctl(slave, TIOCSCTTY, 0);
        for (int fd = 0; fd < 3; fd++) dup2(slave, fd);
        if (slave > 2) close(slave);
        execvp(argv[3], argv + 3);
        _exit(127);
    }
    file = pid > 0 ? fopen(argv[2], "w") : NULL;
    if (!file || fprintf(file, "%d\n", pid) < 0 || fclose(file)) return 1;
    return 0;
}
