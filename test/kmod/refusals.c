/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused, and that nothing has happened then. */
#define _GNU_SOURCE
#include "kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct files files;
static uint8_t status[64];

static long call_with(struct mwarp_exchange call)
{
    return ioctl(files.device, MWARP_IOC_EXCHANGE, &call);
}

static struct mwarp_exchange good(const struct mwarp_extent *extents, uint32_t count)
{
    return request(&files, extents, count, status, 0);
}

static void requests(void)
{
    struct mwarp_extent extent = {.a = 0, .b = 0, .pages = 4};
    struct mwarp_exchange call;

    files = make_files(64);
    call = good(&extent, 1);
    call.flags = 4;
    REFUSED(call_with(call), EINVAL);
    call.flags = MWARP_X_FLAGS;
    REFUSED(call_with(call), EINVAL);
    for (int i = 0; i < 2; i++) {
        call = good(&extent, 1);
        call.reserved[i] = 1;
        REFUSED(call_with(call), EINVAL);
    }
    REFUSED(call_with(good(&extent, 0)), EINVAL);
    REFUSED(call_with(good(&extent, MWARP_MAX_PAGES + 1)), EINVAL);
    REFUSED(call_with(good((void *)16, 1)), EFAULT);
    REFUSED(call_with(good((void *)-4096l, 1)), EFAULT);
    call = good(&extent, 1);
    call.status = 16;
    REFUSED(call_with(call), EFAULT);
    call.status = (uint64_t)-4096l;
    REFUSED(call_with(call), EFAULT);
    call.status = (uintptr_t)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REFUSED(call_with(call), EFAULT);
    REFUSED(ioctl(files.device, MWARP_IOC_EXCHANGE, NULL), EFAULT);
    REFUSED(ioctl(files.device, MWARP_IOC_INFO, NULL), EFAULT);
    REFUSED(ioctl(files.device, MWARP_IOC_TABLE_FILL, &call), ENOTTY);
    REFUSED(ioctl(files.device, 0, &call), ENOTTY);
    check_files(&files, 0, 0, 0);
}

static void extents(void)
{
    static const struct {
        struct mwarp_extent extents[2];
        uint32_t count;
    } bad[] = {
        {{{.a = 0, .b = 0, .pages = 0}}, 1},
        {{{.a = 61, .b = 0, .pages = 4}}, 1},
        {{{.a = 0, .b = 61, .pages = 4}}, 1},
        {{{.a = 64, .b = 0, .pages = 1}}, 1},
        {{{.a = UINT64_MAX, .b = 0, .pages = 1}}, 1},
        {{{.a = 0, .b = UINT64_MAX, .pages = 1}}, 1},
        {{{.a = 1ul << 52, .b = 0, .pages = 1}}, 1},
        {{{.a = 0, .b = 0, .pages = UINT64_MAX}}, 1},
        {{{.a = 0, .b = 0, .pages = MWARP_MAX_PAGES + 1}}, 1},
        {{{.a = 0, .b = 0, .pages = MWARP_MAX_PAGES}, {.a = 0, .b = 0, .pages = 1}}, 2},
        {{{.a = 0, .b = 0, .pages = 4}, {.a = 3, .b = 10, .pages = 4}}, 2},
        {{{.a = 3, .b = 10, .pages = 4}, {.a = 0, .b = 0, .pages = 4}}, 2},
        {{{.a = 0, .b = 0, .pages = 4}, {.a = 10, .b = 3, .pages = 4}}, 2},
        {{{.a = 10, .b = 3, .pages = 4}, {.a = 0, .b = 0, .pages = 4}}, 2},
        {{{.a = 5, .b = 5, .pages = 1}, {.a = 5, .b = 5, .pages = 1}}, 2},
    };

    files = make_files(64);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        CHECK(call_with(good(bad[i].extents, bad[i].count)) == -1 && errno == EINVAL, "case %zu: errno %d", i,
              errno);
    }
    check_files(&files, 0, 0, 0);
}

static int reopened(int fd, int flags)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static void other_files(void)
{
    struct mwarp_extent extent = {.a = 0, .b = 0, .pages = 4};
    struct mwarp_exchange call;
    int pipes[2], sealed, huge;

    files = make_files(64);
    CHECK(pipe(pipes) == 0);
    sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
    CHECK(ftruncate(sealed, 64 * PAGE) == 0 && fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE) == 0);
    huge = memfd_create("huge", MFD_HUGETLB | MFD_HUGE_2MB);
    CHECK(huge >= 0, "errno %d", errno);
    const struct {
        int fd;
        int error;
    } bad[] = {
        {-1, EBADF},
        {9999, EBADF},
        {reopened(files.b, O_RDONLY), EBADF},
        {reopened(files.b, O_WRONLY), EBADF},
        {reopened(files.b, O_PATH), EBADF},
        {pipes[0], EOPNOTSUPP},
        {files.device, EOPNOTSUPP},
        {open("/proc/self/maps", O_RDONLY | O_CLOEXEC), EOPNOTSUPP},
        {huge, EOPNOTSUPP},
        {sealed, EPERM},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int side = 0; side < 2; side++) {
            call = good(&extent, 1);
            *(side ? &call.b : &call.a) = bad[i].fd;
            errno = 0;
            CHECK(call_with(call) == -1 && errno == bad[i].error, "file %zu: errno %d", i, errno);
        }
    call = good(&extent, 1);
    call.b = files.a;
    REFUSED(call_with(call), EINVAL);
    call.b = reopened(files.a, O_RDWR);
    REFUSED(call_with(call), EINVAL);
    check_files(&files, 0, 0, 0);
}

/* Files that shrank: what lies behind the end is not there. */
static void shrunken_files(void)
{
    files = make_files(64);
    CHECK(ftruncate(files.b, 10 * PAGE + 1) == 0);
    REFUSED(try_exchange(&files, 0, 0, 12, 0, status), EINVAL);
    CHECK(try_exchange(&files, 0, 0, 11, 0, status) == 11);
}

static void drop_privileges(void *argument)
{
    (void)argument;
    CHECK(setresuid(65534, 65534, 65534) == 0);
    REFUSED(open("/dev/mwarp", O_RDWR), EPERM);
}

/* Also where the device's mode would let anyone open it. */
static void without_the_capability(void)
{
    struct stat before;

    CHECK(stat("/dev/mwarp", &before) == 0 && (before.st_mode & 0777) == 0600, "mode %o", before.st_mode);
    CHECK(chmod("/dev/mwarp", 0666) == 0);
    pid_t pid = start(drop_privileges, NULL);
    int end;
    CHECK(waitpid(pid, &end, 0) == pid);
    CHECK(chmod("/dev/mwarp", 0600) == 0);
    CHECK(end == 0);
}

const struct test refusal_tests[] = {
    {"a malformed request is refused and changes nothing", requests},
    {"extents that overlap or lie outside are refused and change nothing", extents},
    {"other files, sealed ones and the same file twice are refused", other_files},
    {"pages behind the end of a file are refused", shrunken_files},
    {"the device opens only with the capability", without_the_capability},
    {NULL, NULL},
};
