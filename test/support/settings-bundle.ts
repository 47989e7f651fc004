/** An OCI bundle in which nothing is as it is by default. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { makeOciConfig, type OciConfig } from "../../src/container/oci.js";

const capabilities =
  "CHOWN DAC_OVERRIDE FOWNER KILL MKNOD NET_RAW SETGID SETPCAP SETUID SYS_CHROOT SYS_NICE SYS_RESOURCE"
    .split(" ")
    .map((name) => `CAP_${name}`);

const limit = (type: string, soft: number, hard: number) => ({ type: `RLIMIT_${type}`, soft, hard });

/** Files of the container's control group that hold what it may use. */
export const limitFiles = (
  "cgroup.max.depth cgroup.max.descendants cpu.idle cpu.max cpu.max.burst cpu.weight cpuset.cpus cpuset.mems io.max io.weight " +
  "memory.high memory.low memory.max memory.min memory.oom.group memory.swap.max pids.max"
).split(" ");

const resources = {
  devices: [
    { allow: false, access: "rwm" },
    { allow: true, type: "c", major: 1, minor: 11, access: "r" },
  ],
  memory: { limit: 200 << 20, reservation: 50 << 20, swap: 300 << 20 },
  cpu: { shares: 512, quota: 80_000, period: 100_000, cpus: "0", mems: "0" },
  pids: { limit: 99 },
  blockIO: { weight: 321, throttleReadBpsDevice: [{ major: 254, minor: 0, rate: 10 << 20 }] },
  unified: { "memory.high": String(150 << 20), "memory.oom.group": "1" },
};

const sysctl = {
  "net.ipv4.ip_forward": "1",
  "net.core.somaxconn": "555",
  "net.ipv4.ip_unprivileged_port_start": "80",
  "net.ipv4.tcp_keepalive_time": "99",
  "net.ipv4.ping_group_range": "0 1000",
  "net.ipv4.conf.eth0.rp_filter": "2",
  "kernel.shmmax": "12345678",
  "kernel.shm_rmid_forced": "1",
  "kernel.msgmax": "7777",
  "kernel.sem": "111 222 33 44",
  "fs.mqueue.msg_max": "33",
};

const tmpfs = (destination: string, ...options: string[]) => ({
  destination,
  type: "tmpfs",
  source: "tmpfs",
  options,
});

/** A bundle in `directory` that runs `settings` from `rootfs`. */
export function writeSettingsBundle(directory: string, rootfs: string): string {
  const base = makeOciConfig({
    argv: ["settings"],
    env: ["SET=in the bundle"],
    cwd: "/",
    hostname: "bundle",
    memoryLimitBytes: null,
    terminal: null,
  });
  const linux = base.linux as OciConfig;
  const config = {
    ...base,
    domainname: "example.test",
    root: { path: rootfs },
    mounts: [
      ...(base.mounts as unknown[]),
      tmpfs("/tmp", "nosuid", "noexec", "nodev", "size=1m", "mode=1777"),
      tmpfs("/run", "ro", "nosuid", "shared"),
    ],
    process: {
      ...(base.process as OciConfig),
      user: { uid: 0, gid: 0, umask: 0o027, additionalGids: [5, 6] },
      capabilities: {
        ...Object.fromEntries(
          ["bounding", "effective", "permitted", "inheritable"].map((set) => [set, capabilities]),
        ),
        ambient: ["CAP_NET_RAW", "CAP_CHOWN"],
      },
      rlimits: [
        limit("NOFILE", 4000, 5000),
        limit("CORE", 0, 0),
        limit("MEMLOCK", 1 << 19, 1 << 20),
        limit("MSGQUEUE", 1 << 19, 1 << 20),
        limit("AS", 2 ** 32, 2 ** 33),
      ],
      oomScoreAdj: 333,
      noNewPrivileges: false,
    },
    linux: {
      ...linux,
      maskedPaths: [...(linux.maskedPaths as string[]), "/sys/firmware", "/proc/acpi"],
      rootfsPropagation: "slave",
      sysctl,
      resources,
      seccomp: {
        defaultAction: "SCMP_ACT_ALLOW",
        architectures: ["SCMP_ARCH_X86_64"],
        syscalls: [{ names: ["sethostname"], action: "SCMP_ACT_ERRNO", errnoRet: 39 }],
      },
    },
  };
  mkdirSync(directory, { recursive: true });
  writeFileSync(path.join(directory, "config.json"), JSON.stringify(config));
  return directory;
}
