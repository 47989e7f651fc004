/** A real QEMU whose processor never starts, with the preloaded library: a VM in a fraction of a second, without a guest. */
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { discoverMemory } from "../../../src/vm/layout.js";
import { endProcess, startTimeOf } from "../../../src/vm/process.js";
import { QmpClient } from "../../../src/vm/qmp.js";
import type { MemoryLayout, VmEndpoint } from "../../../src/vm/types.js";

const here = import.meta.dirname;
/** Builds the library unless these sources were built before, so that unit tests need no `make build`. */
export function builtLibrary(): string {
  const native = join(here, "../../../native/vmm");
  const files = readdirSync(native).map((name) => join(native, name));
  const hash = createHash("sha256");
  for (const file of files) hash.update(readFileSync(file));
  const target = join(here, "../../../dist/test", `libmwarp-vmm-${hash.digest("hex").slice(0, 8)}.so`);
  if (existsSync(target)) return target;
  mkdirSync(dirname(target), { recursive: true });
  // Test files run side by side: each builds its own and renames.
  const own = `${target}.${process.pid}`;
  const sources = files.filter((file) => file.endsWith(".c"));
  execFileSync("gcc", ["-O1", "-fPIC", "-shared", "-o", own, ...sources, "-lpthread", "-ldl"]);
  renameSync(own, target);
  return target;
}

export interface PausedQemuOptions {
  memory?: string;
  /** Extra arguments instead of a shared memory backend. */
  memoryArguments?: readonly string[];
  /** Devices, back ends and whatever else it shall have. */
  devices?: readonly string[];
  /** Another library that is preloaded before ours. */
  alsoPreload?: string;
}

export class PausedQemu implements AsyncDisposable {
  readonly endpoint: VmEndpoint;
  readonly qmp: QmpClient;
  readonly #directory: string;

  private constructor(endpoint: VmEndpoint, qmp: QmpClient, directory: string) {
    this.endpoint = endpoint;
    this.qmp = qmp;
    this.#directory = directory;
  }

  static async start(options: PausedQemuOptions = {}): Promise<PausedQemu> {
    const directory = mkdtempSync(join(tmpdir(), "mwarp-qemu-"));
    const memory = options.memory ?? "64M";
    const shared = ["-machine", "q35,memory-backend=ram0", "-m", memory];
    shared.push("-object", `memory-backend-memfd,id=ram0,size=${memory},share=on`);
    const qmpSocket = join(directory, "qmp.sock");
    const vmmSocket = join(directory, "vmm.sock");
    const fixed = ["-nodefaults", "-display", "none", "-S", "-accel", "tcg", "-cpu", "max"];
    const args = [
      ...fixed,
      "-qmp",
      `unix:${qmpSocket},server=on,wait=off`,
      ...(options.memoryArguments ?? shared),
      ...(options.devices ?? []),
    ];
    const preload = [
      ...(options.alsoPreload === undefined ? [] : [options.alsoPreload]),
      builtLibrary(),
    ].join(":");
    const log = openSync(join(directory, "log"), "a");
    const child = spawn("qemu-system-x86_64", args, {
      stdio: ["ignore", log, log],
      env: { PATH: process.env.PATH, LD_PRELOAD: preload, MWARP_VMM_SOCKET: vmmSocket },
    });
    closeSync(log);
    const pid = child.pid ?? 0;
    const startTime = startTimeOf(pid) ?? "";
    const endpoint = {
      name: "paused",
      pid,
      startTime,
      qmpSocket,
      agentSocket: "/none",
      vmmSocket,
      address: null,
    };
    for (;;) {
      try {
        // The socket file exists an instant before QEMU listens on it.
        return new PausedQemu(endpoint, await QmpClient.open(qmpSocket), directory);
      } catch (error) {
        if (child.exitCode !== null || child.signalCode !== null)
          throw new Error(`QEMU: ${readFileSync(join(directory, "log"), "utf8")}`, { cause: error });
        await sleep(20);
      }
    }
  }

  /** Layout of its RAM; fails when that cannot be exchanged. */
  async layout(): Promise<MemoryLayout> {
    const backing = await discoverMemory(this.endpoint.pid, this.qmp);
    if (backing.kind !== "shared-memfd") throw new Error(backing.reason);
    return backing.layout;
  }

  /** Writes into guest RAM from outside. */
  poke(hva: number, bytes: Uint8Array): void {
    const fd = openSync(`/proc/${this.endpoint.pid}/mem`, "r+");
    writeSync(fd, bytes, 0, bytes.length, hva);
    closeSync(fd);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.qmp.close();
    await endProcess(this.endpoint, 500);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
