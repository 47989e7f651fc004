/*
 * Silence inside a container that stands still. The fence keeps its packets from the network, but not from each other: while CRIU
 * restores one end of a connection over the loopback device, that end sends what it has not sent yet, and the kernel answers for the
 * other, which is not there yet, with a reset. So sockets of the container's control group send nothing, but for what CRIU sends
 * itself (the FIN of a half-closed connection, marked as for the network locks of its own).
 *
 * A program of the kernel's packet filter on the control group needs neither a module nor a netfilter, and ends with the group.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By which the program is found again, whoever attached it. */
#define NAME "mwarp_quiet"
/* soccr/soccr.h of CRIU, SOCCR_MARK. */
#define CRIU_MARK 0xC114
/* More are not looked at: nobody has a container's group filter its packets this often. */
#define MOST_PROGRAMS 64

static int bpf(enum bpf_cmd command, union bpf_attr *attr)
{
    long result = syscall(SYS_bpf, command, attr, sizeof *attr);

    return result < 0 ? -errno : (int)result;
}

/* Lets pass what bears CRIU's mark; drops the rest. */
static int load(void)
{
    const struct bpf_insn program[] = {
        {.code = BPF_LDX | BPF_MEM | BPF_W,
         .dst_reg = BPF_REG_2,
         .src_reg = BPF_REG_1,
         .off = offsetof(struct __sk_buff, mark)},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
        {.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = BPF_REG_2, .off = 1, .imm = CRIU_MARK},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attr = {0};

    attr.prog_type = BPF_PROG_TYPE_CGROUP_SKB;
    attr.expected_attach_type = BPF_CGROUP_INET_EGRESS;
    attr.insns = (uintptr_t)program;
    attr.insn_cnt = sizeof program / sizeof *program;
    attr.license = (uintptr_t) "GPL";
    memcpy(attr.prog_name, NAME, sizeof NAME);
    return bpf(BPF_PROG_LOAD, &attr);
}

static int change(enum bpf_cmd command, int group, int program)
{
    union bpf_attr attr = {0};

    attr.target_fd = (uint32_t)group;
    attr.attach_bpf_fd = (uint32_t)program;
    attr.attach_type = BPF_CGROUP_INET_EGRESS;
    if (command == BPF_PROG_ATTACH) attr.attach_flags = BPF_F_ALLOW_MULTI;
    return bpf(command, &attr);
}

static int has_our_name(int program)
{
    struct bpf_prog_info info = {0};
    union bpf_attr attr = {0};

    attr.info.bpf_fd = (uint32_t)program;
    attr.info.info_len = sizeof info;
    attr.info.info = (uintptr_t)&info;
    return bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) == 0 && strcmp(info.name, NAME) == 0;
}

/* Also of those that an earlier helper attached. */
static int detach(int group)
{
    uint32_t ids[MOST_PROGRAMS];
    union bpf_attr attr = {0};
    int error = 0;

    attr.query.target_fd = (uint32_t)group;
    attr.query.attach_type = BPF_CGROUP_INET_EGRESS;
    attr.query.prog_ids = (uintptr_t)ids;
    attr.query.prog_cnt = MOST_PROGRAMS;
    /* A kernel that cannot say has never attached one. */
    if (bpf(BPF_PROG_QUERY, &attr) < 0) return 0;
    for (uint32_t i = 0; error == 0 && i < attr.query.prog_cnt; i++) {
        union bpf_attr by_id = {0};

        by_id.prog_id = ids[i];
        int program = bpf(BPF_PROG_GET_FD_BY_ID, &by_id);

        if (program < 0) continue;
        if (has_our_name(program)) error = change(BPF_PROG_DETACH, group, program);
        close(program);
    }
    return error;
}

int quiet(const char *cgroup, int on)
{
    int group = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error;

    if (group < 0) return -errno;
    /* Once, however often it is asked for. */
    error = detach(group);
    if (error == 0 && on) {
        int program = load();

        error = program < 0 ? program : change(BPF_PROG_ATTACH, group, program);
        if (program >= 0) close(program);
    }
    close(group);
    return error;
}
