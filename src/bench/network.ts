/**
 * Raw TCP between the VMs: what a transfer of pages could reach at most. Measured in the guests themselves, over the addresses that
 * CRIU's page server uses, with one connection and plain read and write (native/guest/tcp.c).
 */
import type { DaemonClient } from "../daemon/client.js";
import { MwarpError } from "../errors.js";
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
  const receiver = execute(daemon, to, [helper, "tcp-receive", String(PORT)], signal);
  try {
    await receiver.said("ready");
    const size = String(options.bytes ?? BYTES);
    const sender = execute(daemon, from, [helper, "tcp-send", address, String(PORT), size], signal);
    const [bytes, ns] = (await sender.finished).trim().split(" ").map(Number);
    await receiver.finished;
    return { kind: "network", backing, round, from, to, bytes, time_ms: ns / 1e6 };
  } finally {
    over.abort();
    await receiver.finished.catch(() => undefined); // thrown above when it was the reason
  }
}

interface Execution {
  /** Resolves once standard output holds `text`. @throws when the command ends first */
  said(text: string): Promise<void>;
  /** Standard output of a command that ended with 0. */
  readonly finished: Promise<string>;
}

function execute(daemon: DaemonClient, vm: string, argv: readonly string[], signal: AbortSignal): Execution {
  const output = { 1: "", 2: "" };
  let look = (): void => undefined;
  const finished = daemon
    .execInVm(vm, argv, {
      stdin: null,
      signal,
      write: (fd, data) => {
        output[fd] += data.toString();
        look();
      },
    })
    .then((status) => {
      if (status === 0) return output[1];
      const details = output[2].split("\n").filter((line) => line !== "");
      throw new MwarpError("MWARP_E_LAB", `${argv.slice(1).join(" ")} in ${vm} ended with ${status}`, {
        details,
      });
    });
  const said = (text: string): Promise<void> => {
    const heard = new Promise<void>((resolve) => {
      look = () => {
        if (output[1].includes(text)) resolve();
      };
      look();
    });
    return Promise.race([heard, finished.then(() => undefined)]);
  };
  return { said, finished };
}
