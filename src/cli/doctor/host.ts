/** What mWarp needs of the host. Reads only; nothing is changed and no VM is started. */
import { existsSync, readFileSync } from "node:fs";
import { formatBytes } from "../output/format.js";
import { type Check, fail, ok, warn } from "./check.js";

const MIN_NODE = [20, 18] as const;
/** Two lab VMs of the default size touch about this much. */
const WANTED_MEMORY_BYTES = 3 * 1024 ** 3;
/** A scattered 1 GiB container in 2 MiB pieces, with room for QEMU's own. */
const WANTED_MAP_COUNT = 65_530;

/** The outside facts, so that the judgement can be tested. */
export interface HostFacts {
  readonly isRoot: boolean;
  readonly nodeVersion: string;
  readonly missingPackages: readonly string[];
  /** Null: not probed since boot. */
  readonly kvm: { readonly works: boolean; readonly reason: string } | null;
  readonly hasTun: boolean;
  readonly meminfo: string;
  readonly maxMapCount: number | null;
}

export function readHostFacts(
  isRoot: boolean,
  lab: { missingPackages(): readonly string[]; knownKvmVerdict(): HostFacts["kvm"] },
): HostFacts {
  return {
    isRoot,
    nodeVersion: process.versions.node,
    missingPackages: lab.missingPackages(),
    kvm: lab.knownKvmVerdict(),
    hasTun: existsSync("/dev/net/tun"),
    meminfo: readFileSync("/proc/meminfo", "utf8"),
    maxMapCount: readNumber("/proc/sys/vm/max_map_count"),
  };
}

export function judgeHost(facts: HostFacts): Check[] {
  return [
    facts.isRoot
      ? ok("host.root", "running as root")
      : fail("host.root", "not root", "Run mwarp as root: it drives VMs, namespaces and containers."),
    judgeNode(facts.nodeVersion),
    facts.missingPackages.length === 0
      ? ok("host.packages", "all packages of the lab are installed")
      : warn(
          "host.packages",
          `missing: ${facts.missingPackages.join(", ")}`,
          `apt-get install ${facts.missingPackages.join(" ")} (or mwarp lab up, which does it)`,
        ),
    judgeKvm(facts.kvm),
    facts.hasTun
      ? ok("host.tun", "/dev/net/tun is there")
      : fail("host.tun", "/dev/net/tun is missing", "modprobe tun; the lab's VMs need taps."),
    judgeMemory(facts.meminfo),
    judgeHugepages(facts.meminfo),
    judgeMapCount(facts.maxMapCount),
  ];
}

function judgeNode(version: string): Check {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const fine = major > MIN_NODE[0] || (major === MIN_NODE[0] && minor >= MIN_NODE[1]);
  const wanted = MIN_NODE.join(".");
  return fine
    ? ok("host.node", `Node ${version}`)
    : fail("host.node", `Node ${version} is too old`, `Install Node ${wanted} or newer.`);
}

function judgeKvm(kvm: HostFacts["kvm"]): Check {
  if (kvm === null) return ok("host.kvm", "not probed since boot; `mwarp lab up` probes it");
  if (kvm.works) return ok("host.kvm", `/dev/kvm runs guests (${kvm.reason})`);
  const remedy =
    "VMs run under emulation (TCG), several times slower. Enable virtualisation, or nested virtualisation.";
  return warn("host.kvm", kvm.reason, remedy);
}

function judgeMemory(meminfo: string): Check {
  const free = field(meminfo, "MemAvailable") ?? 0;
  return free >= WANTED_MEMORY_BYTES
    ? ok("host.memory", `${formatBytes(free)} available`)
    : warn(
        "host.memory",
        `${formatBytes(free)} available`,
        `Two default lab VMs want ${formatBytes(WANTED_MEMORY_BYTES)}; use mwarp lab up --memory 1G, or free some.`,
      );
}

function judgeHugepages(meminfo: string): Check {
  const total = field(meminfo, "HugePages_Total");
  const free = field(meminfo, "HugePages_Free") ?? 0;
  if (total === null)
    return warn("host.hugepages", "the kernel has no hugetlb pages", "Remapping is slower on 4 KiB pages.");
  return ok("host.hugepages", `${total} of 2 MiB reserved, ${free} free`);
}

function judgeMapCount(found: number | null): Check {
  if (found !== null && found >= WANTED_MAP_COUNT) return ok("host.max_map_count", String(found));
  return warn(
    "host.max_map_count",
    found === null ? "cannot be read" : String(found),
    `sysctl vm.max_map_count=${WANTED_MAP_COUNT}: each remapped extent is a mapping of the VMM.`,
  );
}

/** A field of /proc/meminfo: bytes for those in kB, a count for the others. */
function field(meminfo: string, name: string): number | null {
  const match = new RegExp(`^${name}:\\s+(\\d+)( kB)?$`, "m").exec(meminfo);
  if (match === null) return null;
  return Number(match[1]) * (match[2] === undefined ? 1 : 1024);
}

function readNumber(file: string): number | null {
  return existsSync(file) ? Number(readFileSync(file, "utf8")) : null;
}
