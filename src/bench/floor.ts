/**
 * The floor of a downtime: how long stock runc and CRIU keep a process of 1 MiB from running when they take it down and bring it
 * up again in one VM, on tmpfs and with nothing in between. The process itself notes when it did not run (native/bench/gap), so the
 * time is from the last instant before the freeze to the first after the restore.
 */
import { readFile } from "node:fs/promises";
import { loadavg } from "node:os";
import type { DaemonClient } from "../daemon/client.js";
import { MwarpError } from "../errors.js";
import { distFile } from "../paths.js";
import { MIB } from "../units.js";
import { executeInVm } from "./in-vm.js";
import type { Backing, FloorRecord } from "./records.js";

/** On a tmpfs of the guest, the images too. The container's state lies here as well: `runc list` of others does not show it. */
const DIRECTORY = "/run/mwarp-floor";
const NAME = "floor";
const PROGRAM = "/mwarp-bench-gap";
const GAPS = "/gaps";
const LIMIT_MS = 120_000;
const CLEAR_MS = 20_000;
/** Two clocks of one guest, read one after the other. */
const CLOCKS_AGREE_MS = 5;

const mount = (destination: string, type: string, options: readonly string[] = [], source = type) => ({
  ...{ destination, type, source },
  options: ["nosuid", "noexec", ...options],
});

/**
 * What `runc spec` writes, but for the process and the network: the VM's own. That of a container of mWarp is also made by another
 * than runc, and CRIU would take a second for one that is runc's.
 */
const configuration = {
  ociVersion: "1.0.2",
  process: {
    terminal: false,
    user: { uid: 0, gid: 0 },
    args: [PROGRAM, "watch", GAPS, String(MIB)],
    env: ["PATH=/usr/bin:/bin"],
    cwd: "/",
    noNewPrivileges: true,
  },
  root: { path: "rootfs", readonly: false },
  hostname: NAME,
  mounts: [
    mount("/proc", "proc"),
    { ...mount("/dev", "tmpfs"), options: ["nosuid", "strictatime", "mode=755", "size=65536k"] },
    mount("/dev/pts", "devpts", ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    mount("/dev/shm", "tmpfs", ["nodev", "mode=1777", "size=65536k"], "shm"),
    mount("/dev/mqueue", "mqueue", ["nodev"]),
    mount("/sys", "sysfs", ["nodev", "ro"]),
    mount("/sys/fs/cgroup", "cgroup", ["nodev", "relatime", "ro"]),
  ],
  linux: {
    cgroupsPath: "/mwarp-floor",
    resources: { devices: [{ allow: false, access: "rwm" }] },
    namespaces: ["pid", "ipc", "uts", "mount", "cgroup"].map((type) => ({ type })),
  },
};

const runc = `runc --root ${DIRECTORY}/state --log ${DIRECTORY}/log`;
const images = `--image-path ${DIRECTORY}/images --work-path ${DIRECTORY}/work`;

/** Nothing of it stays, whatever state it was left in; also where there was nothing. */
const clearing = `
[ -d ${DIRECTORY} ] || exit 0
! ${runc} state ${NAME} >/dev/null 2>&1 || ${runc} delete --force ${NAME}
rm -rf ${DIRECTORY}`;

const preparing = `set -e
mkdir -p ${DIRECTORY}/bundle/rootfs
cd ${DIRECTORY}/bundle
printf %s "$1" >config.json
cat >rootfs${PROGRAM}
chmod 755 rootfs${PROGRAM}`;

/**
 * Once to have everything read from disk and once to be measured. Nothing comes between runc's two commands: all that is started
 * there would be in the gap. The process has no output: CRIU would have to be told of its file.
 */
const measuring = `
cd ${DIRECTORY} || exit 1
now=bundle/rootfs${PROGRAM}
fail() { tail -n 1 log; grep -h Error work/*.log | tail -n 2; echo "runc $1 failed"; exit 1; } >&2
${runc} run --detach --bundle bundle ${NAME} </dev/null >/dev/null 2>&1 || fail run
for try in warm measured; do
  rm -rf images work
  mkdir images work
  sleep 1
  before=$($now now)
  ${runc} checkpoint ${images} ${NAME} >/dev/null 2>&1 || fail checkpoint
  ${runc} restore --detach --bundle ${DIRECTORY}/bundle ${images} ${NAME} </dev/null >/dev/null 2>&1 || fail restore
done
after=$($now now)
# One processor: it may come to the process only when runc has ended.
sleep 1
echo "before $before"
echo "after $after"
sed 's/^/gap /' bundle/rootfs${GAPS}`;

export interface FloorOptions {
  readonly daemon: Pick<DaemonClient, "execInVm">;
  readonly vm: string;
  readonly backing: Backing;
  readonly round: number;
  readonly signal: AbortSignal;
}

/** @throws MWARP_E_LAB when it cannot be measured, with what runc and CRIU said */
export async function measureFloor({
  daemon,
  vm,
  backing,
  round,
  signal,
}: FloorOptions): Promise<FloorRecord> {
  const shell = (
    name: string,
    script: string,
    limit: AbortSignal,
    input?: Buffer,
    ...more: string[]
  ): Promise<string> =>
    executeInVm(daemon, vm, ["sh", "-c", script, "sh", ...more], limit, { name, input }).finished;
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  const program = await readFile(distFile("native", "mwarp-bench-gap"));
  const clear = (within: AbortSignal): Promise<string> => shell("clearing the floor", clearing, within);
  // What a run that was killed has left.
  await clear(limit);
  const load = loadavg()[0];
  let said: string;
  try {
    await shell("preparing the floor", preparing, limit, program, JSON.stringify(configuration));
    said = await shell("measuring the floor", measuring, limit);
  } catch (error) {
    // It is the first thing that went wrong that is told.
    await clear(AbortSignal.timeout(CLEAR_MS)).catch(() => undefined);
    throw error;
  }
  await clear(AbortSignal.timeout(CLEAR_MS));
  return { kind: "floor", backing, round, vm, load, ...readFloor(said) };
}

/**
 * From what the guest said: "before REALTIME MONOTONIC", the same with "after", and "gap FROM NS" for each time in which the process
 * did not run. Nanoseconds.
 * @throws MWARP_E_LAB when the clock was set meanwhile, or the process knows of no time in which it did not run
 */
export function readFloor(said: string): Pick<FloorRecord, "frozen_ms" | "commands_ms"> {
  const lines = said.trim().split("\n");
  const of = (word: string): (readonly [first: bigint, second: bigint])[] =>
    lines.flatMap((line) => {
      const found = new RegExp(`^${word} (\\d+) (\\d+)$`).exec(line);
      return found === null ? [] : [[BigInt(found[1]), BigInt(found[2])] as const];
    });
  const [before] = of("before");
  const [after] = of("after");
  if (before === undefined || after === undefined) throw unknownFloor("the guest did not say when", lines);
  const [commands_ms, monotonic_ms] = [ms(after[0] - before[0]), ms(after[1] - before[1])];
  if (Math.abs(commands_ms - monotonic_ms) > CLOCKS_AGREE_MS)
    throw unknownFloor("the guest's clock was set while it was measured", lines);
  const gaps = of("gap").filter(([from]) => from >= before[0] && from <= after[0]);
  if (gaps.length === 0) throw unknownFloor("the process knows of no time in which it did not run", lines);
  return { frozen_ms: Math.max(...gaps.map(([, ns]) => ms(ns))), commands_ms };
}

const ms = (ns: bigint): number => Number(ns) / 1e6;
const unknownFloor = (why: string, details: readonly string[]): MwarpError =>
  new MwarpError("MWARP_E_LAB", `the floor is unknown: ${why}`, { details });
