#include "admission.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef BPF_PSEUDO_KFUNC_CALL
#define BPF_PSEUDO_KFUNC_CALL 2
#endif
/* enum bpf_attach_type and enum tcx_action_base, since Linux 6.6 */
#define TCX_INGRESS 46
enum { TCX_NEXT = -1, TCX_DROP = 2 };
#define AGREED_BYTES offsetof(struct agreement, sequence)
#define MAX_EXPECTED 65536
#define LISTENING    10 /* BPF_TCP_LISTEN */

/* Where things are in a packet without options, from the first byte of its IP header. */
struct shape {
    uint16_t type;
    uint8_t first_mask, first, protocol_at;
    /* Addresses and ports, the peer's first: they lie together, and in the order of struct bpf_sock_tuple. */
    uint8_t tuple_at, tuple_bytes;
};
static const struct shape shapes[2] = {
    {.type = ETHERTYPE_IP,
     .first_mask = 0xff,
     .first = 0x45,
     .protocol_at = 9,
     .tuple_at = 12,
     .tuple_bytes = 12},
    {.type = ETHERTYPE_IPV6,
     .first_mask = 0xf0,
     .first = 0x60,
     .protocol_at = 6,
     .tuple_at = 8,
     .tuple_bytes = 36},
};

/* After the ports come sequence number, acknowledgement, length and flags. */
enum { AFTER_PORTS = 4 + 4 + 2, ACK_SYN_RST = 0x16, ACK = 0x10, STACK = -64 };

/* A program under construction, and the jumps that lead to its end. */
struct program {
    struct bpf_insn code[96];
    int length, ends[16], count;
};

static void add(struct program *program, uint8_t code, uint8_t to, uint8_t from, int16_t offset,
                int32_t value)
{
    program->code[program->length++] = (struct bpf_insn){
        .code = code, .dst_reg = to & 15U, .src_reg = from & 15U, .off = offset, .imm = value};
}

static void move(struct program *program, uint8_t to, uint8_t from)
{
    add(program, BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0);
}

static void set(struct program *program, uint8_t to, int32_t value)
{
    add(program, BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value);
}

static void stack_address(struct program *program, uint8_t to, int32_t offset)
{
    move(program, to, BPF_REG_10);
    add(program, BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, offset);
}

static void load(struct program *program, uint8_t size, uint8_t to, uint8_t from, int offset)
{
    add(program, BPF_LDX | BPF_MEM | size, to, from, (int16_t)offset, 0);
}

static void call(struct program *program, int32_t helper)
{
    add(program, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

/* Goes on only where the register has (BPF_JNE), or has not (BPF_JEQ), the value: to the end otherwise. */
static void end_if(struct program *program, uint8_t comparison, uint8_t reg, int32_t value)
{
    program->ends[program->count++] = program->length;
    add(program, BPF_JMP | comparison | BPF_K, reg, 0, 0, value);
}

/* What there is no agreement about goes on its way, as the next in line has it. */
static void finish(struct program *program)
{
    for (int i = 0; i < program->count; i++)
        program->code[program->ends[i]].off = (int16_t)(program->length - program->ends[i] - 1);
    set(program, BPF_REG_0, TCX_NEXT);
    add(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* Where a forward jump leads: here. */
static void land(struct program *program, int jump)
{
    program->code[jump].off = (int16_t)(program->length - jump - 1);
}

static int jump(struct program *program, uint8_t code, uint8_t a, uint8_t b, int32_t value)
{
    add(program, BPF_JMP | code, a, b, 0, value);
    return program->length - 1;
}

static void match_packet(struct program *program, const struct shape *shape)
{
    int tuple = STACK + shape->tuple_at, bytes = shape->tuple_at + shape->tuple_bytes + AFTER_PORTS;

    move(program, BPF_REG_6, BPF_REG_1);
    load(program, BPF_W, BPF_REG_1, BPF_REG_6, offsetof(struct __sk_buff, protocol));
    end_if(program, BPF_JNE, BPF_REG_1, htons(shape->type));
    move(program, BPF_REG_1, BPF_REG_6);
    set(program, BPF_REG_2, sizeof(struct ether_header));
    stack_address(program, BPF_REG_3, STACK);
    set(program, BPF_REG_4, bytes);
    call(program, BPF_FUNC_skb_load_bytes);
    end_if(program, BPF_JNE, BPF_REG_0, 0);
    load(program, BPF_B, BPF_REG_1, BPF_REG_10, STACK);
    add(program, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_1, 0, 0, shape->first_mask);
    end_if(program, BPF_JNE, BPF_REG_1, shape->first);
    load(program, BPF_B, BPF_REG_1, BPF_REG_10, STACK + shape->protocol_at);
    end_if(program, BPF_JNE, BPF_REG_1, IPPROTO_TCP);
    load(program, BPF_B, BPF_REG_1, BPF_REG_10, tuple + shape->tuple_bytes + 9);
    add(program, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_1, 0, 0, ACK_SYN_RST);
    end_if(program, BPF_JNE, BPF_REG_1, ACK);
}

/* Somebody who acknowledges another number than ours has nothing to do with the handshake. */
static void match_agreement(struct program *program, const struct shape *shape, int map)
{
    int tuple = STACK + shape->tuple_at;

    add(program, BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map);
    add(program, 0, 0, 0, 0, 0);
    stack_address(program, BPF_REG_2, tuple);
    call(program, BPF_FUNC_map_lookup_elem);
    end_if(program, BPF_JEQ, BPF_REG_0, 0);
    move(program, BPF_REG_7, BPF_REG_0);
    load(program, BPF_W, BPF_REG_1, BPF_REG_7, offsetof(struct agreement, acknowledged));
    load(program, BPF_W, BPF_REG_2, BPF_REG_10, tuple + shape->tuple_bytes + 4);
    program->ends[program->count++] = jump(program, BPF_JNE | BPF_X, BPF_REG_1, BPF_REG_2, 0);
}

/*
 * The listener is found as the packet would find it. What is not a listener has been admitted already. A later segment than the one that
 * makes the connection is dropped, not answered with a reset: its sender repeats what comes before it.
 */
static void vouch(struct program *program, const struct shape *shape, uint32_t kfunc)
{
    int admitted, late, done;

    move(program, BPF_REG_1, BPF_REG_6);
    stack_address(program, BPF_REG_2, STACK + shape->tuple_at);
    set(program, BPF_REG_3, shape->tuple_bytes);
    set(program, BPF_REG_4, BPF_F_CURRENT_NETNS);
    set(program, BPF_REG_5, 0);
    call(program, BPF_FUNC_sk_lookup_tcp);
    end_if(program, BPF_JEQ, BPF_REG_0, 0);
    move(program, BPF_REG_8, BPF_REG_0);
    set(program, BPF_REG_9, TCX_NEXT);
    load(program, BPF_W, BPF_REG_1, BPF_REG_8, offsetof(struct bpf_sock, state));
    admitted = jump(program, BPF_JNE | BPF_K, BPF_REG_1, 0, LISTENING);
    load(program, BPF_W, BPF_REG_1, BPF_REG_7, offsetof(struct agreement, sequence));
    load(program, BPF_W, BPF_REG_2, BPF_REG_10, STACK + shape->tuple_at + shape->tuple_bytes);
    late = jump(program, BPF_JNE | BPF_X, BPF_REG_1, BPF_REG_2, 0);
    move(program, BPF_REG_1, BPF_REG_6);
    move(program, BPF_REG_2, BPF_REG_8);
    move(program, BPF_REG_3, BPF_REG_7);
    set(program, BPF_REG_4, AGREED_BYTES);
    add(program, BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, 0, (int32_t)kfunc);
    done = jump(program, BPF_JA, 0, 0, 0);
    land(program, late);
    set(program, BPF_REG_9, TCX_DROP);
    land(program, admitted);
    land(program, done);
    move(program, BPF_REG_1, BPF_REG_8);
    call(program, BPF_FUNC_sk_release);
    move(program, BPF_REG_0, BPF_REG_9);
    add(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static int bpf(int command, union bpf_attr *attributes)
{
    long result = syscall(SYS_bpf, command, attributes, sizeof *attributes);

    return result < 0 ? -errno : (int)result;
}

static int make_map(const struct shape *shape)
{
    union bpf_attr attributes = {0};

    attributes.map_type = BPF_MAP_TYPE_HASH;
    attributes.key_size = shape->tuple_bytes;
    attributes.value_size = sizeof(struct agreement);
    attributes.max_entries = MAX_EXPECTED;
    attributes.map_flags = BPF_F_NO_PREALLOC;
    return bpf(BPF_MAP_CREATE, &attributes);
}

static int load_program(const struct shape *shape, int map, uint32_t kfunc)
{
    struct program program = {0};
    union bpf_attr attributes = {0};

    match_packet(&program, shape);
    match_agreement(&program, shape, map);
    vouch(&program, shape, kfunc);
    finish(&program);
    attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
    attributes.insns = (uintptr_t)program.code;
    attributes.insn_cnt = (uint32_t)program.length;
    attributes.license = (uintptr_t) "GPL";
    return bpf(BPF_PROG_LOAD, &attributes);
}

static int attach(int program, unsigned interface)
{
    union bpf_attr attributes = {0};

    attributes.link_create.prog_fd = (uint32_t)program;
    attributes.link_create.target_ifindex = interface;
    attributes.link_create.attach_type = TCX_INGRESS;
    return bpf(BPF_LINK_CREATE, &attributes);
}

int admission_open(struct admission *admission, const char *interface, uint32_t kfunc)
{
    unsigned index = if_nametoindex(interface);

    memset(admission, 0xff, sizeof *admission);
    if (index == 0) return -errno;
    for (int i = 0; i < 2; i++) {
        admission->maps[i] = make_map(&shapes[i]);
        if (admission->maps[i] < 0) return admission->maps[i];
        admission->programs[i] = load_program(&shapes[i], admission->maps[i], kfunc);
        if (admission->programs[i] < 0) return admission->programs[i];
        admission->links[i] = attach(admission->programs[i], index);
        if (admission->links[i] < 0) return admission->links[i];
    }
    return 0;
}

int admission_expect(const struct admission *admission, const struct ends *ends,
                     const struct agreement *agreement)
{
    uint16_t ports[2] = {htons(ends->peer_port), htons(ends->port)};
    size_t bytes = ends->family == 4 ? 4 : 16;
    union bpf_attr attributes = {0};
    uint8_t tuple[36];

    memcpy(tuple, ends->peer, bytes);
    memcpy(tuple + bytes, ends->address, bytes);
    memcpy(tuple + 2 * bytes, ports, sizeof ports);
    attributes.map_fd = (uint32_t)admission->maps[ends->family == 4 ? 0 : 1];
    attributes.key = (uintptr_t)tuple;
    attributes.value = (uintptr_t)agreement;
    return bpf(BPF_MAP_UPDATE_ELEM, &attributes);
}

void admission_close(struct admission *admission)
{
    int *all = (int *)(void *)admission;

    for (size_t i = 0; i < sizeof *admission / sizeof *all; i++)
        if (all[i] >= 0) close(all[i]);
    memset(admission, 0xff, sizeof *admission);
}
