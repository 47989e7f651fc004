/*
 * The controlling terminal of a container's session. CRIU gives it to the leader once all tasks have been forked
 * (criu/tty.c, tty_restore_ctl_terminal), and the kernel knows no other way to get one than to lead a session or to
 * inherit it: all others would be without. So the leader gets it before it forks them. What CRIU does later then finds
 * it done.
 *
 * The terminal is there by then: its name is bound to /dev/console in the container, and CRIU makes it with the mounts
 * (devpts_restore), which init does, whose session has begun (criu/cr-restore.c, restore_task_with_children). Only init
 * can lead the session that runc has given a terminal to, the first of its devpts.
 */
#include "handover.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEADER 1
#define INDEX  0

static bool wanted;

void terminal_begin(void)
{
    wanted = getenv("MWARP_TERMINAL") != NULL;
    unsetenv("MWARP_TERMINAL");
}

static long raw_ioctl(int fd, unsigned long request, long argument)
{
    return raw_call(SYS_ioctl, fd, (long)request, argument, 0, 0, 0);
}

/*
 * criu/tty.c, __pty_open_ptmx_index: one that is asked for its number was just opened. Nobody can open its other end before it is
 * unlocked, which CRIU does later. Where any of it fails the container has a terminal all the same, as by CRIU
 * without this library.
 */
static void opened(int master, unsigned index)
{
    const int unlocked = 0;
    long slave;

    if (!wanted || index != INDEX || getpid() != LEADER || getsid(0) != LEADER) return;
    wanted = false;
    if (raw_ioctl(master, TIOCSPTLCK, (long)&unlocked) < 0) return;
    slave = raw_ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) return;
    raw_ioctl((int)slave, TIOCSCTTY, 1);
    close((int)slave);
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    void *argument;
    long result;

    va_start(list, request);
    argument = va_arg(list, void *);
    va_end(list);
    result = raw_ioctl(fd, request, (long)argument);
    if (result == 0 && request == TIOCGPTN) opened(fd, *(unsigned *)argument);
    return (int)result;
}
