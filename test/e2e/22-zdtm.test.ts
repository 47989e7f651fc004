/** CRIU's own test programs, the measure from outside: a choice of what ordinary containers use. All of them: `make zdtm`. */
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { useLab } from "../support/lab.js";
import { Workload } from "../support/workload.js";
import { runBatch, type World } from "../zdtm/batch.js";
import { buildPrograms } from "../zdtm/programs.js";
import { makeTree } from "../zdtm/tree.js";

/** By what they hold, for the most part; each group is one container. All that listen for TCP want the same port: one in each. */
const groups = {
  "files, pipes and what waits for them":
    "pipe02 fifo eventfs00 epoll inotify00 signalfd00 timerfd file_locks00 file_locks06 unlink_fstat00 unlink_mmap00 memfd00 fdt_shared cwd01 socket-tcp-fin-wait1",
  "processes, signals and memory":
    "zombie00 session00 wait00 sigpending posix_timers pthread00 futex-rl rseq00 mprotect00 cow01 shm sem msgque socket-tcp6-close-wait",
  "sockets and terminals":
    "sockets00 sockets_dgram socket_queues scm01 socket_udp socket-tcpbuf-local pty00 pty04",
} as const;
const chosen = Object.values(groups).flatMap((names) => names.split(" "));

describe("CRIU's own test programs", () => {
  const host = useLab({ memory: "768M" });
  let world: World;
  beforeAll(async () => {
    const { lab } = host;
    const base = path.dirname(lab.rootfs);
    world = { mwarp: lab.mwarp, daemon: lab.daemon, tree: path.join(base, "zdtm"), base };
    await makeTree(world.tree, await buildPrograms(chosen));
  });

  it.each(Object.entries(groups))("find %s as they were, there and back", async (_what, text) => {
    const names = text.split(" ");
    const { verdicts, stopped } = await runBatch(world, names, "ordinary");
    expect(stopped).toBeNull();
    const passed = names.map((name) => ({ name, outcome: "passed", text: "" }));
    expect([...verdicts].sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name))).toEqual(passed);
  });

  it("are not needed to see that files without a name move, those of the image and linked ones, too", async () => {
    const unlinked = await Workload.run(host.lab, "vm-a", "unlinked", ["unlinked"]);
    await unlinked.migrate("vm-b");
    await unlinked.verify();
    await unlinked.migrate("vm-a", ["--method", "cold"]);
    await unlinked.verify();
    await unlinked.remove();
  });
});
