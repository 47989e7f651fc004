/** Whatever files a container has, and whatever it does with them meanwhile, they are on the other side as it left them. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { makeOciConfig } from "../../src/container/oci.js";
import {
  type MigrationReport,
  MigrationReportSchema,
  migrationMethods,
} from "../../src/protocol/migration.js";
import { Crashes } from "../support/crash.js";
import { VolumesSchema } from "../support/documents.js";
import { FilesOnHost } from "../support/files-on-host.js";
import { useLab } from "../support/lab.js";
import { long, runs } from "../support/long.js";
import type { Running } from "../support/mwarp.js";
import { mountNfs, serveNfs } from "../support/nfs.js";
import { roomInGuest } from "../support/shortage.js";
import { Workload } from "../support/workload.js";

const MINUTES = 60_000;
const LARGE_MIB = 24;
/** Of a VM's agent, for its files. */
const FEW_MIB_LEFT = `m=/run/mwarp-guest; mount -o remount,size=$(($(df -kP $m | awk 'END { print $3 }') + 8192))k $m`;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const reportOf = async ({ finished }: Pick<Running, "finished">): Promise<MigrationReport> =>
  MigrationReportSchema.parse(JSON.parse((await finished).stdout));

describe("files that are changed while they are packed", () => {
  it(
    "are all there in the end, as they were when the program stood still",
    async () => {
      for (let seed = 1; seed <= runs(3); seed++) {
        await using files = new FilesOnHost();
        await files.start(seed);
        for (let round = 0; round < 5; round++) {
          const passes = await files.move(() => pause(round * 15), round === 3 ? "whole" : "rest");
          const verdict = await files.verify();
          expect(verdict, `seed ${seed}, round ${round}, ${JSON.stringify(passes)}`).toMatch(/^verify ok/);
        }
      }
    },
    long ? 60 * MINUTES : 2 * MINUTES,
  );
});

describe("in VMs", () => {
  const host = useLab({ memory: "768M" });
  const exec = (name: string, script: string): Promise<string> =>
    host.lab.mwarp.ok(["exec", name, "--", "sh", "-c", script]);
  const volumes = async (): Promise<string[]> => {
    const list = await host.lab.mwarp.json(VolumesSchema, ["volume", "ls"]);
    return list.volumes.map(({ name, vm, container }) => `${name} ${vm} ${container}`);
  };
  /** All that can be said of a container's own files in a VM; nobody is to change them meanwhile. */
  const manifest = async (vm: string, name: string): Promise<string[]> => {
    const trees = `/run/mwarp-guest/containers/${name} upper volumes/store`;
    const program = "$(ls /run/mwarp-guest/rootfs/*/bin/manifest | head -1)";
    const lines = (await host.lab.guest(vm, "sh", "-ec", `exec ${program} ${trees}`)).split("\n");
    // CRIU makes a directory of its own there while it dumps, when the files have been sent.
    return lines.filter((line) => !line.startsWith("upper/tmp "));
  };
  const expectBothPasses = ({ outcome, files }: MigrationReport): void => {
    expect(outcome).toBe("committed");
    expect(files.first_bytes).toBeGreaterThan(100_000);
    expect(files.final_bytes).toBeGreaterThan(0);
  };
  const run = (vm: string, name: string, volume: readonly string[], ...argv: string[]): string[] => [
    ...["run", "--vm", vm, "--name", name, "--rootfs", host.lab.rootfs],
    ...volume.flatMap((text) => ["--volume", text]),
    "--",
    ...(argv.length > 0 ? argv : ["sleep", "100000"]),
  ];

  beforeAll(() => {
    for (const name of ["one", "two", "deep/three", "deep/deeper/four"]) {
      const file = path.join(host.lab.rootfs, "made", name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, `${name} of the lower layer`);
    }
  });

  it(
    "a container goes on with files of every kind, in its root and in a volume, whichever way it moves, and its log has no gap",
    async () => {
      const { lab } = host;
      const crashes = new Crashes(lab);
      await crashes.begin();
      const volume = ["--volume", "store:/data"];
      const files = await Workload.run(lab, "vm-a", "files", ["files", "7", "20", "/made", "/data"], volume);
      // Where the source is frozen and the destination has it all, both have the same.
      const migration = await crashes.startAndHold(["files", "--to", "vm-b", "--json"], "dumped");
      const [there, here] = [await manifest("vm-b", "files"), await manifest("vm-a", "files")];
      migration.release();
      expect(there).toEqual(here);
      expect(here.length).toBeGreaterThan(50);
      expectBothPasses(await reportOf(migration));
      await files.verify();
      expect(await volumes()).toEqual(["store vm-b files"]);
      let to = "vm-b";
      for (const method of long ? migrationMethods : (["cold"] as const)) {
        to = to === "vm-a" ? "vm-b" : "vm-a";
        expectBothPasses(await files.migrate(to, ["--method", method]));
        await files.verify();
        expect(await volumes()).toEqual([`store ${to} files`]);
      }
      const numbers = (await files.lines()).flatMap(
        (line) => /^line (\d+)$/.exec(line)?.slice(1).map(Number) ?? [],
      );
      expect(numbers).toEqual(numbers.map((_, index) => index + 1));
      expect(numbers.length).toBeGreaterThan(10);
    },
    8 * MINUTES,
  );

  it("a named volume is one container's at a time, stays when that goes, and is there for the next", async () => {
    const taken = await host.lab.mwarp.refusal(run("vm-b", "second", ["store:/data"]));
    expect([taken.exit, taken.error.code]).toEqual([4, "MWARP_E_BUSY"]);
    expect(taken.error.message).toMatch(/store.*files/);
    await exec("files", "echo kept > /data/kept");
    await host.lab.mwarp.ok(["rm", "-f", "files"]);
    const [resting] = await volumes();
    const vm = resting.split(" ")[1];
    expect(resting).toBe(`store ${vm} null`);
    const other = vm === "vm-a" ? "vm-b" : "vm-a";
    const elsewhere = await host.lab.mwarp.refusal(run(other, "second", ["store:/data"]));
    expect(elsewhere.error.message).toContain(vm);
    await host.lab.mwarp.ok(run(vm, "second", ["store:/data:ro"]));
    expect(await exec("second", "cat /data/kept; touch /data/x 2>&1 || true")).toMatch(/^kept\n.*Read-only/);
    // What somebody mounts in it by hand is named by its place.
    const pid = (await host.lab.guest(vm, "cat", "/run/mwarp-guest/containers/second/pid")).trim();
    const inside = (...argv: string[]): Promise<string> =>
      host.lab.guest(vm, "nsenter", `--mount=/proc/${pid}/ns/mnt`, "/bin/busybox", ...argv);
    await inside("mount", "-t", "ramfs", "none", "/tmp");
    const mounted = await host.lab.mwarp.refusal(["migrate", "second", "--to", other]);
    expect(mounted.error.details).toContain("cannot be moved: mount at /tmp: ramfs");
    expect(mounted.error.hint).toContain("--volume NAME:/tmp");
    await inside("umount", "/tmp");
    // One of that name in the other VM is somebody's.
    await host.lab.guest(other, "mkdir", "/run/mwarp-guest/volumes/store");
    const refused = await host.lab.mwarp.refusal(["migrate", "second", "--to", other]);
    expect([refused.exit, refused.error.code]).toEqual([5, "MWARP_E_NAME_TAKEN"]);
    expect((await host.lab.mwarp.refusal(["volume", "rm", "store"])).error.message).toMatch(/vm-a and vm-b/);
    await host.lab.mwarp.ok(["volume", "rm", "store", "--vm", other]);
    expect((await host.lab.mwarp.refusal(["volume", "rm", "store"])).error.code).toBe("MWARP_E_BUSY");
    await host.lab.mwarp.ok(["rm", "-f", "--volumes", "second"]);
    expect(await volumes()).toEqual([]);
  });

  it(
    "a directory that both VMs have is tried before a container moves that uses it, and is shared afterwards",
    async () => {
      const { lab } = host;
      await serveNfs(lab, "vm-b");
      await mountNfs(lab, "vm-a", "vm-b", "/mnt/share");
      const program = "exec 3>>/share/log; i=0; while true; do i=$((i+1)); echo $i >&3; sleep 0.2; done";
      await host.lab.mwarp.ok(run("vm-a", "sharing", ["/mnt/share:/share:shared"], "sh", "-c", program));
      const refusal = async (): Promise<string> =>
        (await host.lab.mwarp.refusal(["migrate", "sharing", "--to", "vm-b"])).error.details.join("\n");
      expect(await refusal()).toMatch(/at \/share: vm-b has no directory \/mnt\/share/);
      await lab.guest("vm-b", "mkdir", "-p", "/mnt/share");
      expect(await refusal()).toMatch(/not the same directory in vm-a and vm-b/);
      await mountNfs(lab, "vm-b", "vm-b", "/mnt/share");
      await exec("sharing", "locked /share/locked /share/gone >/dev/null 2>&1 </dev/null & sleep 1");
      const holds = await refusal();
      expect(holds).toMatch(/fd \d+: \/share\/locked is locked/);
      expect(holds).toMatch(/fd \d+: .*deleted while it is open/);
      await exec("sharing", "kill $(pidof locked); sleep 1; rm /share/locked");
      const sharing = new Workload(lab, "sharing", "sh");
      await sharing.migrate("vm-b");
      const log = async (): Promise<number[]> =>
        (await exec("sharing", "cat /share/log")).trim().split("\n").map(Number);
      const before = (await log()).length;
      await expect.poll(async () => (await log()).length, { timeout: 30_000 }).toBeGreaterThan(before);
      const numbers = await log();
      expect(numbers).toEqual(numbers.map((_, index) => index + 1));
      // Nothing is left of what was tried.
      expect((await lab.guest("vm-a", "ls", "-A", "/mnt/share")).trim()).toBe("log");
      await host.lab.mwarp.ok(["rm", "-f", "sharing"]);
      for (const vm of ["vm-a", "vm-b"]) await lab.guest(vm, "umount", "/mnt/share");
    },
    5 * MINUTES,
  );

  it("a bundle's bind mounts are refused by name until it is said what becomes of each", async () => {
    const { lab } = host;
    const directory = path.join(path.dirname(lab.rootfs), "bundle");
    mkdirSync(directory, { recursive: true });
    const config = makeOciConfig({
      argv: ["sleep", "100000"],
      env: [],
      cwd: "/",
      hostname: "b",
      memoryLimitBytes: null,
      terminal: null,
    });
    const binds = ["/srv/one", "/srv/two"].map((source) => ({
      destination: `/in${source}`,
      type: "bind",
      source,
      options: ["rbind", "rw"],
    }));
    const document = {
      ...config,
      root: { path: lab.rootfs },
      mounts: [...(config.mounts as object[]), ...binds],
    };
    writeFileSync(path.join(directory, "config.json"), JSON.stringify(document));
    const start = ["run", "--vm", "vm-a", "--name", "bound", "--bundle", directory];
    const one = ["--volume", "first:/in/srv/one"];
    const refused = await host.lab.mwarp.refusal([...start, ...one]);
    expect([refused.exit, refused.error.details]).toEqual([
      5,
      ["mounts binds /srv/two of the VM to /in/srv/two"],
    ]);
    expect(refused.error.hint).toContain("--volume NAME:/in/srv/two");
    await lab.guest("vm-a", "sh", "-c", "mkdir -p /srv/two; echo there > /srv/two/file");
    await host.lab.mwarp.ok([...start, ...one, "--volume", "/srv/two:/in/srv/two:shared,ro"]);
    expect(
      await exec("bound", "cat /in/srv/two/file; echo mine > /in/srv/one/file; cat /in/srv/one/file"),
    ).toBe("there\nmine\n");
    await host.lab.mwarp.ok(["rm", "-f", "--volumes", "bound"]);
  });

  it(
    "files that are open for writing and did not change are not sent again; what fails while they are sent leaves nothing behind",
    async () => {
      const { lab } = host;
      const large = `${LARGE_MIB} MiB`;
      const program = `dd if=/dev/urandom of=/large bs=1048576 count=${LARGE_MIB} 2>/dev/null; md5sum /large >/sum; exec 3<>/large; echo sized ready ${large}; exec sleep 100000`;
      const sized = await Workload.run(lab, "vm-a", "sized", ["sh", "-c", program]);
      const moved = await new Workload(lab, "sized", "sleep").migrate("vm-b");
      expect(moved.files.first_bytes).toBeGreaterThan(LARGE_MIB << 20);
      expect(moved.files.final_bytes).toBeLessThan(256 << 10);
      expect(await exec("sized", "md5sum /large | diff - /sum && echo same")).toBe("same\n");
      const left = (vm: string): Promise<string> =>
        lab.guest(
          vm,
          "sh",
          "-c",
          "cd /run/mwarp-guest; ls containers staging; ls migrations/*/ 2>/dev/null | grep -v record.json | grep .json; true",
        );

      // No room: found out before anything stands still.
      await lab.guest("vm-a", "sh", "-ec", FEW_MIB_LEFT);
      const full = await reportOf(lab.mwarp.start(["migrate", "sized", "--to", "vm-a", "--json"]));
      await roomInGuest(lab, "vm-a");
      expect([full.outcome, full.error?.code, full.error?.phase]).toEqual([
        "aborted",
        "MWARP_E_NO_MEMORY",
        "prepare",
      ]);
      expect(full.time_ms.downtime).toBe(0);
      expect(await left("vm-a")).not.toContain("sized");

      // Cancelled while they are sent.
      const running = lab.mwarp.start(["migrate", "sized", "--to", "vm-a", "--json"]);
      const some = `until [ "$(du -s /run/mwarp-guest/containers/sized/upper 2>/dev/null | cut -f1)" -gt 1000 ]; do sleep 0.01; done`;
      await lab.guest("vm-a", "sh", "-c", some);
      running.process.kill("SIGINT");
      const cancelled = await reportOf(running);
      expect([cancelled.outcome, cancelled.error?.code, cancelled.error?.phase]).toEqual([
        "aborted",
        "MWARP_E_CANCELLED",
        "prepare",
      ]);
      expect(cancelled.time_ms.downtime).toBe(0);
      expect(await left("vm-a")).not.toContain("sized");
      expect(await exec("sized", "md5sum /large | diff - /sum && echo same")).toBe("same\n");
      await sized.remove();
    },
    6 * MINUTES,
  );
});
