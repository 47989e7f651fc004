/* SPDX-License-Identifier: Apache-2.0 */
/* A KVM guest whose memory is one of the files: it must see each exchange at its next instruction, and write
 * to the right page. */
#define _GNU_SOURCE
#include "kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CODE = 1, DATA = 5, COUNTER = 6, ROUNDS = 200 };

/*
 * Real mode, at 0x1000: says what the first word of page DATA is, counts in page COUNTER, for ever.
 *     mov eax, [0x5000]; out 0x10, eax; inc dword [0x6000]; jmp back
 */
static const uint8_t code[] = {0x66, 0xa1, 0x00, 0x50, 0x66, 0xe7, 0x10,
                               0x66, 0xff, 0x06, 0x00, 0x60, 0xeb, 0xf2};

struct guest {
    int vcpu;
    struct kvm_run *run;
};

static struct guest make_guest(struct files *files)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (kvm < 0) skip("there is no /dev/kvm: errno %d", errno);
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0) skip("KVM makes no VM: errno %d", errno);
    struct kvm_userspace_memory_region region = {.slot = 0,
                                                 .guest_phys_addr = 0,
                                                 .memory_size = files->pages * PAGE,
                                                 .userspace_addr = (uintptr_t)files->at_a};
    CHECK(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0, "errno %d", errno);
    struct guest guest = {.vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)};
    int bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    guest.run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, guest.vcpu, 0);
    CHECK(guest.vcpu >= 0 && guest.run != MAP_FAILED);
    struct kvm_sregs sregs;
    CHECK(ioctl(guest.vcpu, KVM_GET_SREGS, &sregs) == 0);
    sregs.cs.base = sregs.cs.selector = 0;
    CHECK(ioctl(guest.vcpu, KVM_SET_SREGS, &sregs) == 0);
    struct kvm_regs regs = {.rip = CODE * PAGE, .rflags = 2};
    CHECK(ioctl(guest.vcpu, KVM_SET_REGS, &regs) == 0);
    return guest;
}

static uint32_t next_word(struct guest *guest)
{
    CHECK(ioctl(guest->vcpu, KVM_RUN, 0) == 0, "errno %d", errno);
    CHECK(guest->run->exit_reason == KVM_EXIT_IO && guest->run->io.port == 0x10, "exit %u",
          guest->run->exit_reason);
    return *(uint32_t *)((char *)guest->run + guest->run->io.data_offset);
}

/* What is exchanged in each round always has the page that is read and the one that is counted in. */
static void guest_sees_exchanges(struct files files, const size_t firsts[2], const size_t pages[2])
{
    uint32_t counts[2] = {0, 0}, total = 0;

    memset(files.at_a + COUNTER * WORDS, 0, PAGE);
    memset(files.at_b + COUNTER * WORDS, 0, PAGE);
    memcpy(files.at_a + CODE * WORDS, code, sizeof code);
    memcpy(files.at_b + CODE * WORDS, code, sizeof code);
    files.at_a[DATA * WORDS] = 0xaaaa;
    files.at_b[DATA * WORDS] = 0xbbbb;
    struct guest guest = make_guest(&files);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 3; i++, total++)
            CHECK(next_word(&guest) == (round % 2 ? 0xbbbb : 0xaaaa), "round %d", round);
        exchange(&files, firsts[round / 2 % 2], firsts[round / 2 % 2], pages[round / 2 % 2]);
    }
    counts[0] = *(uint32_t *)(files.at_a + COUNTER * WORDS);
    counts[1] = *(uint32_t *)(files.at_b + COUNTER * WORDS);
    /* The count after the last word said has not been made yet. */
    CHECK(counts[0] + counts[1] == total - 1, "%u and %u of %u", counts[0], counts[1], total);
    CHECK(counts[0] > total / 3 && counts[1] > total / 3, "%u and %u", counts[0], counts[1]);
}

/* Every other time with the page of the code, which is the same in both. */
static void small_pages(void)
{
    guest_sees_exchanges(make_files(16), (const size_t[]){DATA, CODE}, (const size_t[]){2, 6});
}

/* All of the guest's memory, mapped by huge pages where KVM has them. */
static void huge_pages(void)
{
    struct files files = make_huge_files(HUGE / PAGE, true, true);

    CHECK(smaps(files.at_a, "ShmemPmdMapped") == 2048 && smaps(files.at_b, "ShmemPmdMapped") == 2048);
    guest_sees_exchanges(files, (const size_t[]){0, 0}, (const size_t[]){HUGE / PAGE, HUGE / PAGE});
}

const struct test kvm_tests[] = {
    {"a KVM guest sees each exchange at its next instruction", small_pages},
    {"a KVM guest sees each exchange of huge pages", huge_pages},
    {NULL, NULL},
};
