/* System calls without the C library's functions, for which this library stands in. x86-64, as all of mWarp. */
#include "handover.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

long raw_call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

void *raw_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return (void *)raw_call(SYS_mmap, (long)at, (long)bytes, protection, flags, fd, offset);
}

void *raw_mremap(void *from, size_t old_bytes, size_t bytes, int flags, void *to)
{
    return (void *)raw_call(SYS_mremap, (long)from, (long)old_bytes, (long)bytes, flags, (long)to, 0);
}

int raw_munmap(void *at, size_t bytes)
{
    return (int)raw_call(SYS_munmap, (long)at, (long)bytes, 0, 0, 0, 0);
}
