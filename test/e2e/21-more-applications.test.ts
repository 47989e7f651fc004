/**
 * Applications as people run them, from Debian's packages, side by side in one lab: each is moved there and back while its client,
 * and the clients of all the others, are at work. Each has an oracle for work that is lost or done twice. What the clients saw over
 * time lies in test-results/applications.json.
 */
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectedOutput } from "../support/applications/c-project.js";
import { type Application, MovingApplication, writeRecords } from "../support/applications/moving.js";
import { applicationRootfs, ROOTFS_MS } from "../support/applications/rootfs.js";
import { writeBundle } from "../support/bundle.js";
import { useLab } from "../support/lab.js";
import { until } from "../support/wait.js";
import { Workload } from "../support/workload.js";

const MINUTES = 60_000;
/** test/applications/count_server.py */
const PYTHON_TICK_MS = 50;

const nodeServer = ["node", "/srv/count-server.mjs", "7000"];

let rootfs: Awaited<ReturnType<typeof applicationRootfs>>;
beforeAll(async () => {
  rootfs = await applicationRootfs();
}, ROOTFS_MS);
const host = useLab({ memory: "2G" });
const ending = new AbortController();
afterAll(() => ending.abort());

const moved: MovingApplication[] = [];
afterAll(() => process.stdout.write(`${writeRecords(moved)}\n`));

async function start(vm: string, application: Application): Promise<MovingApplication> {
  const started = await MovingApplication.start(host.lab, vm, application);
  moved.push(started);
  return started;
}

/** How often the interval timer of the Python server has gone off, and how often it should have. */
function timesOf(verdict: string): readonly [number, number] {
  const [, ticks, elapsed] = /ticks=(\d+) elapsed=(\d+)/.exec(verdict)!;
  return [Number(ticks), Number(elapsed)];
}

/** There and back. */
async function moveTwice(application: MovingApplication): Promise<void> {
  for (let i = 0; i < 2; i++) expect(await application.move()).toMatchObject({ method: "warp" });
}

describe("servers under load", () => {
  let memcached: MovingApplication;
  let nginx: MovingApplication;
  let python: MovingApplication;
  let sqlite: MovingApplication;

  it(
    "start in both VMs and answer",
    async () => {
      memcached = await start("vm-a", {
        name: "memcached",
        rootfs: rootfs.memcached,
        argv: ["memcached", "-u", "nobody", "-m", "16", "-t", "2"],
        client: { protocol: "memcached", port: 11211, connections: 2 },
      });
      nginx = await start("vm-b", {
        name: "nginx",
        rootfs: rootfs.nginx,
        argv: ["nginx", "-c", "/etc/nginx/nginx.conf"],
        client: { protocol: "http", port: 80, connections: 2 },
      });
      python = await start("vm-a", {
        name: "python",
        rootfs: rootfs.python,
        argv: ["python3.13", "/srv/count_server.py", "7000"],
        client: { protocol: "count", port: 7000, connections: 2 },
      });
      sqlite = await start("vm-b", {
        name: "sqlite",
        rootfs: rootfs.python,
        argv: ["python3.13", "/srv/sqlite_writer.py", "7000", "/data/rows.db"],
        client: { protocol: "count", port: 7000, connections: 2 },
      });
      for (const application of [memcached, nginx, python, sqlite]) await application.connect(ending.signal);
    },
    10 * MINUTES,
  );

  it(
    "memcached counts on with each connection and keeps every value",
    async () => {
      await moveTwice(memcached);
      const answers = await memcached.settle();
      const stats = await memcached.exec("sh", "-c", "printf 'stats\\r\\nquit\\r\\n' | nc 127.0.0.1 11211");
      expect(Number(/STAT incr_hits (\d+)/.exec(stats)?.[1])).toBe(answers);
    },
    15 * MINUTES,
  );

  it(
    "nginx answers on the same connections, each request once, and logs each",
    async () => {
      await moveTwice(nginx);
      const answers = await nginx.settle();
      const log = (await nginx.exec("cat", "/var/log/nginx/access.log")).trim().split("\n");
      expect(new Set(log.map((line) => line.split(" ")[0])).size, "connections").toBe(2);
      expect(log).toHaveLength(answers);
      expect(new Set(log).size, "numbers of connection and request").toBe(answers);
    },
    15 * MINUTES,
  );

  it(
    "a Python server keeps its threads, its garbage collector and its interval timer",
    async () => {
      await moveTwice(python);
      const verdict = await python.workload.verify();
      const [before, elapsed] = timesOf(verdict);
      // What it goes off between the freeze and the dump counts once (docs/support-matrix.md): never too often.
      expect(before).toBeLessThanOrEqual(elapsed + 1);
      await sleep(1000);
      const [after] = timesOf(await python.workload.verify());
      expect(after - before).toBeGreaterThanOrEqual(1000 / PYTHON_TICK_MS);
      const answers = await python.settle();
      expect(await python.workload.verify()).toContain(`ok answers=${answers} `);
    },
    15 * MINUTES,
  );

  it(
    "a SQLite writer has committed every row that it said it has, once, and its database is whole",
    async () => {
      await moveTwice(sqlite);
      const answers = await sqlite.settle();
      const ask = (sql: string): Promise<string> => sqlite.exec("sqlite3", "/data/rows.db", sql);
      expect(await ask("PRAGMA journal_mode; PRAGMA integrity_check")).toBe("wal\nok\n");
      expect(await ask("SELECT count(*), max(id) FROM rows")).toBe(`${answers}|${answers}\n`);
      const holes =
        "SELECT client FROM rows GROUP BY client HAVING count(*) <> max(number) OR min(number) <> 1";
      expect(await ask(holes)).toBe("");
    },
    15 * MINUTES,
  );
});

describe("a Redis that writes a log of all changes, and its replica in the other VM", () => {
  let master: MovingApplication;
  let replica: Workload;

  const cli = (name: string, ...argv: string[]): Promise<string> =>
    host.lab.mwarp.ok(["exec", name, "--", "redis-cli", ...argv]);
  const info = async (name: string, key: string): Promise<string> => {
    const text = await cli(name, "info", "all");
    return new RegExp(`^${key}:(.*?)\\r?$`, "m").exec(text)?.[1] ?? `no ${key}`;
  };
  /** Both have the same data, by a digest of all keys and values. */
  const equal = (): Promise<true> =>
    until(
      "master and replica to have the same data",
      async () =>
        (await cli("master", "debug", "digest")) === (await cli("replica", "debug", "digest"))
          ? true
          : undefined,
      { timeoutMs: 2 * MINUTES, intervalMs: 500 },
    );

  it(
    "are linked",
    async () => {
      const settings = [
        "--protected-mode",
        "no",
        "--save",
        "",
        "--appendonly",
        "yes",
        "--enable-debug-command",
        "local",
      ];
      const argv = ["redis-server", "--dir", "/data", ...settings, "--repl-timeout", "600"];
      const { rootfs: directories } = await host.lab.status();
      master = await start("vm-a", {
        name: "master",
        rootfs: directories.redis,
        argv,
        client: { protocol: "redis", port: 6379, connections: 2 },
      });
      await master.connect(ending.signal);
      const command = [...argv, "--replicaof", `${master.ipv4} 6379`];
      await host.lab.mwarp.ok([
        "run",
        "--vm",
        "vm-b",
        "--name",
        "replica",
        "--rootfs",
        directories.redis,
        "--",
        ...command,
      ]);
      replica = new Workload(host.lab, "replica");
      await until(
        "the replica to be linked",
        async () =>
          (await info("replica", "master_link_status").catch(() => "")) === "up" ? true : undefined,
        { timeoutMs: 2 * MINUTES, intervalMs: 500 },
      );
    },
    15 * MINUTES,
  );

  it(
    "keep their link when either moves, without a copy of the whole, and no write is lost",
    async () => {
      expect(await info("master", "sync_full")).toBe("1");
      await master.move();
      await replica.migrate("vm-a");
      await master.move();
      await replica.migrate("vm-b");
      const answers = await master.settle();
      expect(await info("replica", "master_link_status")).toBe("up");
      await equal();
      for (const key of ["sync_full", "sync_partial_ok", "sync_partial_err"])
        expect(`${key}:${await info("master", key)}`).toBe(`${key}:${key === "sync_full" ? 1 : 0}`);
      const counts = await Promise.all([0, 1].map((lane) => cli("replica", "get", `count${lane}`)));
      expect(counts.reduce((sum, count) => sum + Number(count), 0)).toBe(answers);
    },
    10 * MINUTES,
  );

  it(
    "have everything in the log on disk, too",
    async () => {
      const before = await cli("master", "debug", "digest");
      expect(await cli("master", "debug", "loadaof")).toBe("OK\n");
      expect(await cli("master", "debug", "digest")).toBe(before);
    },
    2 * MINUTES,
  );
});

describe("a build by make -j2", () => {
  it(
    "finishes with the right program when it is moved in the middle of it, there and back",
    async () => {
      const script =
        "cd /src && echo build ready && make -s -j2 && ./program; echo ended with $?; exec sleep 100000";
      const build = new Workload(host.lab, "build");
      const ended = async (): Promise<boolean> =>
        (await build.lines()).some((line) => line.startsWith("ended"));
      const words = [
        "run",
        "--vm",
        "vm-a",
        "--name",
        "build",
        "--rootfs",
        rootfs.build,
        "--",
        "sh",
        "-c",
        script,
      ];
      await host.lab.mwarp.ok(words, { timeoutMs: 4 * MINUTES });
      // Less of the processor than the moves have, so that it is not over before them.
      await build.giveWay();
      for (const to of ["vm-b", "vm-a"]) {
        expect(await ended(), "the build is not over yet").toBe(false);
        expect(await build.migrate(to)).toMatchObject({ method: "warp" });
      }
      await until("the build to end", async () => ((await ended()) ? true : undefined), {
        timeoutMs: 5 * MINUTES,
      });
      expect((await build.lines()).slice(1)).toEqual([...expectedOutput(), "ended with 0"]);
    },
    15 * MINUTES,
  );
});

describe("a Java virtual machine under load", () => {
  it(
    "keeps its heap, its compiled code, its timers and its connections",
    async () => {
      const options = ["-Xmx64m", "-XX:+UseSerialGC", "-cp", "/opt/java/classes"];
      const java = await start("vm-a", {
        name: "java",
        rootfs: rootfs.java,
        argv: ["java", ...options, "CountServer", "7000"],
        client: { protocol: "count", port: 7000, connections: 2 },
      });
      await java.connect(ending.signal);
      await moveTwice(java);
      const answers = await java.settle();
      const verdict = await java.exec("sh", "-c", "echo verify | nc 127.0.0.1 7000");
      expect(verdict).toContain(`verify ok answers=${answers} `);
    },
    15 * MINUTES,
  );
});

describe("a Node.js server under load", () => {
  it(
    "keeps its heap, its timers and its worker thread",
    async () => {
      const node = await start("vm-a", {
        name: "node",
        rootfs: rootfs.node,
        argv: nodeServer,
        client: { protocol: "count", port: 7000, connections: 2 },
      });
      await node.connect(ending.signal);
      await moveTwice(node);
      await node.workload.verify();
      const answers = await node.settle();
      expect(await node.workload.verify()).toContain(`ok answers=${answers} `);
    },
    15 * MINUTES,
  );

  it(
    "is refused for a ring of io_uring by that name, and with the remedy",
    async () => {
      // Without a bundle Node.js gets no ring, and does without. The filter of this one lets it have them.
      const bundle = writeBundle(path.join(host.lab.stateDir, "ring"), rootfs.node, nodeServer);
      await host.lab.mwarp.ok(["run", "--vm", "vm-a", "--name", "ring", "--bundle", bundle]);
      const ring = new Workload(host.lab, "ring");
      await until(
        "the server to listen",
        async () => (await ring.lines()).find((line) => line.includes("ready")),
        {
          timeoutMs: 2 * MINUTES,
        },
      );
      const { exit, error } = await host.lab.mwarp.refusal(["migrate", "ring", "--to", "vm-b"]);
      expect(exit).toBe(5);
      expect(error.message).toMatch(/cannot be moved: pid 1 fd \d+: io_uring/);
      expect(error.hint).toContain("a seccomp filter forbids io_uring");
      await ring.remove();
    },
    15 * MINUTES,
  );
});
