/** The agent's end of the channel: the virtio-serial port, through the relay (native/guest/relay.c). */
import { type ChildProcess, spawn } from "node:child_process";
import { readdir } from "node:fs/promises";
import { AGENT_PORT_NAME } from "../protocol/agent.js";
import { exists, readIfThere } from "./files.js";
import { log } from "./log.js";
import { HELPER } from "./paths.js";

const RETRY_MS = 500;

/** The port's device: by udev's name, else by what the kernel says in sysfs. Null when the VM has no such port. */
export async function findPort(): Promise<string | null> {
  const named = `/dev/virtio-ports/${AGENT_PORT_NAME}`;
  if (await exists(named)) return named;
  if (!(await exists("/sys/class/virtio-ports"))) return null;
  for (const device of await readdir("/sys/class/virtio-ports")) {
    const name = await readIfThere(`/sys/class/virtio-ports/${device}/name`);
    if (name?.trim() === AGENT_PORT_NAME) return `/dev/${device}`;
  }
  return null;
}

export class Port {
  onData: (bytes: Uint8Array) => void = () => undefined;
  /** The port was opened, for the first time or anew: what was under way on it before is lost. */
  onOpen: () => void = () => undefined;
  #relay: ChildProcess | null = null;
  #waiting: (() => void)[] = [];

  /** Keeps a relay on the port for as long as the agent lives. */
  start(): void {
    void this.#open().catch((error: unknown) => this.#again(String(error)));
  }

  /** Sends bytes; resolves when more may follow, or when they were lost with the relay. */
  write(bytes: Uint8Array): Promise<void> {
    const stdin = this.#relay?.stdin;
    if (!stdin || stdin.destroyed || stdin.write(bytes)) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async #open(): Promise<void> {
    const path = await findPort();
    if (!path) return this.#again(`no virtio-serial port is named ${AGENT_PORT_NAME}`);
    const relay = spawn(HELPER, ["relay", path], { stdio: ["pipe", "pipe", "ignore"] });
    let ended = false;
    const end = (why: string) => {
      if (ended) return;
      ended = true;
      this.#relay = null;
      this.#release();
      this.#again(why);
    };
    relay.on("error", (error) => end(error.message));
    relay.on("exit", (code) => end(`relay of ${path} ended with ${code}`));
    relay.stdin.on("error", () => undefined);
    relay.stdin.on("drain", () => this.#release());
    relay.stdout.on("data", (data: Uint8Array) => this.onData(data));
    this.#relay = relay;
    log("info", `channel: ${path}`);
    this.onOpen();
  }

  #release(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #again(why: string): void {
    log("warn", `channel: ${why}`);
    setTimeout(() => this.start(), RETRY_MS);
  }
}
