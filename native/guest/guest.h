/*
 * mwarp-guest: the part of the guest side that must not be JavaScript. One static program, called under
 * several names:
 *
 *   mwarp-guest shim [--terminal] CONTAINER JOB -- RUNC...   keeps a container's output and exit code, outlives the agent
 *   mwarp-guest job JOB -- COMMAND...           runs a command whose exit code outlives the agent
 *   mwarp-guest lazy JOB CGROUP -- CRIU...      a job that fetches pages, whose failure ends the cgroup's tasks
 *   mwarp-guest pages                           resident helper of the agent on stdin and stdout (pages.c)
 *   mwarp-guest hold                            keeps files mapped whose frames are exchanged (hold.c)
 *   mwarp-guest relay PORT                     carries bytes between the agent and its port (relay.c)
 *   mwarp-guest symbols NAME...                  addresses of kernel symbols (symbols.c)
 *   mwarp-guest btf FILE REQUEST...              layouts of kernel structures (btf.c)
 *   mwarp-guest tcp-trial KFUNC                  connections that nobody accepts (trial.c)
 *   mwarp-guest fault-costs                     what it takes to fault memory in (faults.c)
 *   mwarp-guest tcp-receive, tcp-send           speed of the VMs' network (tcp.c)
 *   mwarp-guest layer DIRECTORY CGROUP ROOT TREE... what has changed of a container's files (layer.c)
 *   mwarp-guest digests DIRECTORY               what is there of a container's large files (digest.c)
 *   mwarp-guest patch DIRECTORY                 makes of them what they are on the other side (patch.c)
 *   mwarp-guest layer-look DIRECTORY TREE...    how much they are, and what of them cannot move (look.c)
 *   mwarp-guest criu-version CRIU FILE          keeps what a CRIU says of its version (tools.c)
 *   criu, tar                                   quick ones before the stock ones (tools.c, swrk.c)
 *   mwarp-action, or CRTOOLS_SCRIPT_ACTION set  CRIU action script (action.c)
 *
 * Convention: functions return 0 or a count, and a negative errno on failure.
 */
#ifndef MWARP_GUEST_H
#define MWARP_GUEST_H

#define _GNU_SOURCE

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define AGENT_ROOT     "/run/mwarp-guest"
#define ACTION_SOCKET  AGENT_ROOT "/action.sock"
#define MIGRATIONS_DIR AGENT_ROOT "/migrations/"
#define CGROUP_ROOT    "/sys/fs/cgroup"

/* A run of pages of one task, as it travels from the agent. */
struct page_run {
    uint64_t address;
    uint64_t pages;
};

/* util.c */
int read_all(int fd, void *buffer, size_t bytes);
int write_all(int fd, const void *buffer, size_t bytes);
/* Reads a small file as a string; the trailing newline is cut. */
int read_text(const char *path, char *text, size_t size);
int write_text(const char *path, const char *text);
/* Writes `text` so that a reader sees the whole of it or nothing. */
int write_text_atomic(const char *path, const char *text);
int64_t now_ms(void);
void sleep_ms(int ms);

/* cgroup.c */
/* Directory of the cgroup (v2) of `pid`. */
int cgroup_of(pid_t pid, char *path, size_t size);
/* Asks for the freeze and waits until the kernel says that every task is frozen. */
int cgroup_freeze(const char *path, int timeout_ms);
int cgroup_thaw(const char *path);
/* Kills every task, frozen or traced ones too, and waits until none is left. */
int cgroup_kill(const char *path, int timeout_ms);

/* populate.c: faults the runs in; answers with the number of pages it had to touch or a negative errno. */
int64_t populate(pid_t pid, const struct page_run *runs, size_t count);

/*
 * present.c: of the runs, those parts of at least `least` pages of which every page is present and private. Answers with their
 * number, at most `room`, or a negative errno.
 */
int64_t present_runs(pid_t pid, const struct page_run *runs, size_t count, uint64_t least, struct page_run *found,
                     size_t room);

/* sockets.c: lines "FD PROTOCOL" and "FD !FAULT" into `text`; answers with their bytes or a negative errno. */
int64_t socket_kinds(pid_t pid, char *text, size_t size);
/* socket-faults.c: why a task's socket cannot move; null when nothing is known against it. */
const char *socket_fault(pid_t pid, int fd);
/* unix-diag.c: a line for each UNIX socket of a network namespace; answers as socket_kinds does. */
int64_t unix_sockets(const char *netns, char *text, size_t size);

/* traits.c: what CRIU leaves behind of the threads of some processes, as text; and giving it to them on the other side. */
int64_t read_traits(const uint32_t *pids, size_t count, char *text, size_t size);
int64_t set_traits(const char *text);

/* datagrams.c: a descriptor of our own for what a task's refers to, or a negative errno. */
int borrow_descriptor(pid_t pid, int fd);

/* net.c */
/* The network fence: a container's veth on the bridge, or a port of it through which nothing passes. */
int fence_close(const char *name);
int fence_open(const char *name, const char *bridge);
/* `ipv6`: null for a container that has none. */
int announce(const char *netns, const char *name, const uint8_t mac[6], const uint8_t ipv4[4], const uint8_t *ipv6);
/* Changes to another network namespace. Answers with the own one, to leave the other for again, or a negative errno. */
int enter_network(const char *netns);
void leave_network(int own);

/* quiet.c: nothing but CRIU's own packets leaves the sockets of a control group; `on` 0: as before. */
int quiet(const char *cgroup, int on);

/* neighbour.c: an unsolicited neighbour advertisement by the interface of that name. */
int advertise(const char *name, const uint8_t mac[6], const uint8_t ipv6[16]);

/* A TCP connection of a container, as it travels from the agent; the last three in this machine's byte order. */
struct connection {
    /* 4 or 6: of the 16 bytes of an address the first 4 count, or all. */
    uint32_t family;
    uint8_t address[16], peer[16];
    uint16_t port, peer_port;
    uint32_t next_from_peer;
};
/* wake.c: has the peers send again at once. Answers with the number of connections whose peer was told. */
int64_t wake_peers(const char *netns, const struct connection *connections, size_t count);

/* action.c: a stage of CRIU at which a migration may be held. */
struct stage {
    const char *name;
    /* Directory of the images, in that of the migration. */
    const char *images;
    /* Init of the container; 0 where there is none yet. */
    pid_t init;
    pid_t criu;
    /* What CRIU, and runc, have taken since CRIU was told to begin; -1 where nobody knows. */
    int64_t criu_us, runc_us;
};
/* Does what the stage asks for and waits for the verdict. 0: CRIU goes on, also from stages that nobody waits at. */
int stage_hold(const struct stage *stage);

/* protobuf.c: `value` of a number, `bytes` of all that has a length. */
struct protobuf_field {
    uint32_t number;
    uint64_t value;
    const unsigned char *bytes;
    size_t length;
};
/* The first field of that number. False when there is none before the end, or before what makes no sense. */
bool protobuf_find(const unsigned char *bytes, size_t length, uint32_t number, struct protobuf_field *field);

/* incoming.c: what tar does not do with a container's files; `changes` are of layer.c. Before tar, or after it. */
int layer_incoming(const char *directory, char *changes, size_t bytes, bool unpacked);

/* between.c: whether a request of runc for CRIU is one to stand between; standing there, to the end of CRIU. */
int between_is_wanted(int server);
void between_carry(int runc, int criu, pid_t criu_pid, const char *images);

/* swrk.c: puts a process between runc and the CRIU that the caller becomes. */
int swrk_stand_between(int server, const char *images);

/* shim.c: what a job and its likes leave in their directory. */
int exit_code(int status);
void write_number(const char *directory, const char *name, int number);
/* Starts a command whose output lands in JOB/output; writes JOB/pid. Answers its pid or a negative errno. */
pid_t start_job(const char *job, char **argv);

int shim_main(int argc, char **argv);
int job_main(int argc, char **argv);
int lazy_main(int argc, char **argv);
int pages_main(void);
int hold_main(void);
int relay_main(int argc, char **argv);
int symbols_main(int count, char **names);
int btf_main(int argc, char **argv);
int tcp_trial_main(int argc, char **argv);
int fault_costs_main(void);
int tcp_receive_main(int argc, char **argv);
int tcp_send_main(int argc, char **argv);
int layer_main(int argc, char **argv);
int layer_look_main(int argc, char **argv);
int digests_main(int argc, char **argv);
int patch_main(int argc, char **argv);
int criu_main(int argc, char **argv);
int criu_version_main(int argc, char **argv);
int tar_main(int argc, char **argv);
int action_main(void);

#endif
