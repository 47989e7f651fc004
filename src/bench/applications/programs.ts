/** The applications as containers: root file system, command, size. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MwarpError } from "../../errors.js";
import type { LabStatus } from "../../lab/index.js";
import { distFile } from "../../paths.js";
import type { Application } from "../records.js";

const MIB = 1024 * 1024;

export interface ApplicationProgram {
  readonly port: number;
  /** Size of the data when nobody asks for another, bytes. */
  readonly bytes: number;
  readonly connections: number;
  command(port: number, bytes: number): string[];
  /** Gives the root file system's directory; `end` once no container is started from it any more. */
  rootfs(lab: Pick<LabStatus, "rootfs">): { readonly directory: string; end(): void };
}

const fromLab =
  (name: string): ApplicationProgram["rootfs"] =>
  (lab) => {
    const directory = lab.rootfs[name];
    if (directory === undefined)
      throw new MwarpError("MWARP_E_LAB", `the guest image has no root file system "${name}"`);
    return { directory, end: () => undefined };
  };

/** A root file system of one static program. */
function ofProgram(program: string): { directory: string; end(): void } {
  const directory = mkdtempSync(join(tmpdir(), "mwarp-rootfs-"));
  const file = join(directory, "bin", program);
  mkdirSync(join(directory, "bin"));
  copyFileSync(distFile("native", program), file);
  // Always the same: its archive is kept under a digest that counts times.
  for (const path of [file, join(directory, "bin"), directory]) utimesSync(path, 0, 0);
  return { directory, end: () => rmSync(directory, { recursive: true }) };
}

/** No files, so that only memory counts; THP as the VM has it (Redis switches it off for itself otherwise). */
const redisCommand = (port: number): string[] => [
  "redis-server",
  ...["--port", String(port), "--protected-mode", "no", "--disable-thp", "no"],
  ...["--save", "", "--appendonly", "no"],
];

/**
 * What is set differs from PostgreSQL's defaults where they are for a larger machine. Shared buffers hold all of the data; they
 * are shared memory, and the files of the cluster are the container's writable layer: both travel beside the warp. Log segments are
 * therefore not kept for later use, which on an overlay of tmpfs saves nothing. No autovacuum, which would come into one window and
 * not into another; and none of the processes that nothing here uses.
 */
const postgresSettings = {
  listen_addresses: "*",
  unix_socket_directories: "",
  shared_buffers: "16MB",
  max_connections: "20",
  max_wal_size: "8MB",
  min_wal_size: "2MB",
  wal_recycle: "off",
  wal_init_zero: "off",
  checkpoint_warning: "0",
  wal_level: "minimal",
  max_wal_senders: "0",
  max_logical_replication_workers: "0",
  autovacuum: "off",
} as const;

function postgresCommand(port: number): string[] {
  const settings = Object.entries({ port, ...postgresSettings }).map(
    ([name, value]) => `-c ${name}='${value}'`,
  );
  // It refuses to be root. `exec`: it is the container's first process, which gets the signals.
  const command = ["exec postgres -D /var/lib/postgresql/main", ...settings].join(" ");
  return ["su", "-s", "/bin/sh", "-c", command, "postgres"];
}

export const programs: Readonly<Record<Application, ApplicationProgram>> = {
  redis: {
    port: 6379,
    bytes: 256 * MIB,
    connections: 8,
    command: redisCommand,
    rootfs: fromLab("redis"),
  },
  postgres: {
    port: 5432,
    bytes: 4 * MIB,
    connections: 4,
    command: postgresCommand,
    rootfs: fromLab("postgres"),
  },
  memory: {
    port: 7070,
    bytes: 256 * MIB,
    connections: 4,
    command: (port, bytes) => ["/bin/mwarp-bench-touch", String(port), String(Math.ceil(bytes / MIB))],
    rootfs: () => ofProgram("mwarp-bench-touch"),
  },
};
