/** What moves with a container besides its memory, by whichever method. */
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { migrationMethods } from "../../src/protocol/migration.js";
import { PsSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { startLines } from "../support/lines.js";
import { long } from "../support/long.js";
import { projectRoot } from "../support/mwarp.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "768M" });
const exec = (name: string, ...argv: string[]): Promise<string> =>
  host.lab.mwarp.ok(["exec", name, "--", ...argv]);

async function addressOf(name: string): Promise<string> {
  const { containers } = await host.lab.mwarp.json(PsSchema, ["ps"]);
  const found = containers.find((entry) => entry.name === name);
  if (!found) throw new Error(`${name} is not listed`);
  return found.ipv4;
}

/** What both VMs start while `action` lasts, by path (sched_process_exec, Documentation/trace/events.rst). */
async function startedDuring(action: () => Promise<unknown>): Promise<Record<"vm-a" | "vm-b", string[]>> {
  const traces = "/sys/kernel/tracing";
  const both = (script: string): Promise<string[]> =>
    Promise.all(["vm-a", "vm-b"].map((vm) => host.lab.guest(vm, "sh", "-ec", script)));
  await both(
    `mountpoint -q ${traces} || mount -t tracefs t ${traces}; cd ${traces}; echo > trace; echo 1 > events/sched/sched_process_exec/enable`,
  );
  await action();
  const texts = await both(`cd ${traces}; echo 0 > events/sched/sched_process_exec/enable; cat trace`);
  const [a, b] = texts.map((text) => [...text.matchAll(/filename=(\S+)/g)].map(([, file]) => file));
  return { "vm-a": a, "vm-b": b };
}
const named = (files: readonly string[], name: string): number =>
  files.filter((file) => file.endsWith(`bin/${name}`)).length;

/** What pre-copy and post-copy do with all but the pages is what cold does. */
// As systemd has it, so that mounts show up wherever else the place is seen (mount_namespaces(7)). The lab's init leaves them private.
beforeAll(async () => {
  for (const vm of ["vm-a", "vm-b"]) await host.lab.guest(vm, "mount", "--make-rshared", "/");
});

const methods = long ? migrationMethods : (["warp", "cold"] as const);

describe.each(methods)("by %s, a container takes along", (method) => {
  const name = `who-${method}`;
  const how = ["--method", method];

  it("its address and MAC, which answer on the bridge from the other VM", async () => {
    const who = await Workload.run(host.lab, "vm-a", name, ["tcpcount", "9000"]);
    const before = await exec(name, "ip", "-o", "addr", "show", "scope", "global");
    const link = await exec(name, "ip", "-o", "link");
    const started = await startedDuring(() => who.migrate("vm-b", how));
    // The methods over the network are the stock tools' and nobody else's; a warp starts no program that can be spared.
    const isWarp = method === "warp";
    for (const vm of ["vm-a", "vm-b"] as const) {
      expect(
        started[vm].some((file) => file.endsWith("/tools/tar")),
        `a quick tar in ${vm}`,
      ).toBe(isWarp);
      expect(
        started[vm].some((file) => file.endsWith("/mwarp-action")),
        `action scripts in ${vm}`,
      ).toBe(!isWarp);
      expect(named(started[vm], "gzip") > 0, `gzip in ${vm}`).toBe(!isWarp);
      expect(named(started[vm], "criu") > 1, `a CRIU for its version in ${vm}`).toBe(!isWarp);
      expect(named(started[vm], "criu")).toBeGreaterThan(0);
    }
    expect(await exec(name, "ip", "-o", "addr", "show", "scope", "global")).toBe(before);
    const macs = (text: string): string[] => text.match(/([0-9a-f]{2}:){5}[0-9a-f]{2}/g) ?? [];
    expect(macs(await exec(name, "ip", "-o", "link"))).toEqual(macs(link));
    expect(
      await host.lab.guest("vm-b", "busybox", "ping", "-c", "1", "-W", "2", await addressOf(name)),
    ).toContain("1 packets received");
  });

  it("the files it wrote, changed and removed, its log, and files it has open", async () => {
    const script =
      "echo new > /made; echo changed > /etc/hosts; rm -r /root; chmod 640 /made; dd if=/dev/zero of=/big bs=1024 count=3000 2>/dev/null;" +
      "mkdir -m 711 /dev/shm/deep; echo shared > /dev/shm/deep/file; chmod 604 /dev/shm/deep/file; ln -s file /dev/shm/deep/link; dd if=/dev/urandom of=/dev/shm/large bs=1024 count=3000 2>/dev/null";
    await exec(name, "sh", "-c", script);
    const look = (): Promise<string> =>
      exec(
        name,
        "sh",
        "-c",
        "cat /made /etc/hosts; ls -ld /made; ls -ld /dev/null /dev/tty /dev/fd /dev/ptmx /dev/shm /dev/shm/deep /dev/shm/deep/*; md5sum /big /dev/shm/large; cat /dev/shm/deep/link; ls -d /root",
      );
    const before = await look().catch((error: Error) => error.message);
    const lines = (await host.lab.mwarp.ok(["logs", name])).split("\n");
    await new Workload(host.lab, name).migrate("vm-a", how);
    expect(await look().catch((error: Error) => error.message)).toBe(before);
    expect((await host.lab.mwarp.ok(["logs", name])).split("\n").slice(0, lines.length)).toEqual(lines);
  });

  it("a TCP connection that goes on as if nothing had been", async () => {
    const { namespace } = await host.lab.status();
    const client = await startLines([
      "nsenter",
      `--net=/run/netns/${namespace}`,
      process.execPath,
      path.join(projectRoot, "test/support/count-client.mjs"),
      await addressOf(name),
      "9000",
    ]);
    await client.waitFor(/connected/);
    const who = new Workload(host.lab, name);
    await who.migrate("vm-b", how);
    await who.migrate("vm-a", how);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    client.endInput();
    const [text] = await client.waitFor(/\{"answers".*/);
    const seen: { answers: number; error: string | null } = JSON.parse(text);
    expect(seen.error).toBeNull();
    expect(seen.answers).toBeGreaterThan(20);
    await client[Symbol.asyncDispose]();
    await who.remove();
  });
});

it("what CRIU packs is compressed only where memory has no room for it, and either is unpacked", async () => {
  // The ballast leaves 160 MiB: 80 MiB are more than half of what is free beside them then.
  const script = `
tar=/run/mwarp-guest/tools/tar; export MWARP_TAR=$(command -v tar)
here=$(mktemp -d); cd $here; mkdir from to ballast
mount -t tmpfs t from; mount -t tmpfs -o size=100% ballast ballast
for kib in 20000 81920; do
  if [ $kib = 81920 ]; then
    available=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
    fallocate -l $(((available - 163840) * 1024)) ballast/file
  fi
  dd if=/dev/zero of=from/file bs=1024 count=$kib 2>/dev/null
  $tar --create --gzip --directory from . <from >archive; head -c 2 archive | od -An -tx1
  rm -rf to/*; $tar --extract --gzip --directory to <archive; cmp from/file to/file && echo same
done
umount from ballast; cd /; rm -r $here`;
  const said = await host.lab.guest("vm-a", "sh", "-ec", script);
  expect(said.split("\n").map((line) => line.trim())).toEqual(["2e 2f", "same", "1f 8b", "same", ""]);
});
