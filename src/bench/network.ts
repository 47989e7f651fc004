/**
 * Raw TCP between the VMs: what a transfer of pages could reach at most. Measured in the guests themselves, over the addresses that
 * CRIU's page server uses, with one connection and plain read and write (native/guest/tcp.c).
 */
import type { DaemonClient } from "../daemon/client.js";
import { executeInVm } from "./in-vm.js";
import type { Backing, NetworkRecord } from "./records.js";

/** A second or two under emulation: long enough for TCP to reach its speed. */
const BYTES = 256 * 1024 ** 2;
const PORT = 7079;
const LIMIT_MS = 120_000;
const helper = "/usr/local/bin/mwarp-guest";

export interface NetworkOptions {
  readonly daemon: DaemonClient;
  readonly from: string;
  readonly to: string;
  /** Address of `to` on the bridge. */
  readonly address: string;
  readonly backing: Backing;
  readonly round: number;
  readonly signal: AbortSignal;
  /** Bytes to send; for tests. */
  readonly bytes?: number;
}

/** @throws MWARP_E_LAB when it cannot be measured, with what the programs in the guests said */
export async function measureNetwork(options: NetworkOptions): Promise<NetworkRecord> {
  const { daemon, from, to, address, backing, round } = options;
  const over = new AbortController();
  const signal = AbortSignal.any([options.signal, over.signal, AbortSignal.timeout(LIMIT_MS)]);
  const receiver = executeInVm(daemon, to, [helper, "tcp-receive", String(PORT)], signal);
  try {
    await receiver.said("ready");
    const size = String(options.bytes ?? BYTES);
    const sender = executeInVm(daemon, from, [helper, "tcp-send", address, String(PORT), size], signal);
    const [bytes, ns] = (await sender.finished).trim().split(" ").map(Number);
    await receiver.finished;
    return { kind: "network", backing, round, from, to, bytes, time_ms: ns / 1e6 };
  } finally {
    over.abort();
    await receiver.finished.catch(() => undefined); // thrown above when it was the reason
  }
}
