/**
 * The demo: a Redis with data and a busy client moves between two VMs, twice by warp, once by copying, and everything
 * is checked. Uses the lab that is up, or brings one up and takes it down again.
 */
import type { Io } from "../cli/io.js";
import { formatBytes } from "../cli/output/format.js";
import type { DaemonClient } from "../daemon/client.js";
import { MwarpError } from "../errors.js";
import { type LabProgress, type LabStatus, labDown, labStatus, labUp } from "../lab/index.js";
import { plainContainer } from "../protocol/api.js";
import { VALUE_BYTES } from "../redis/dataset.js";
import { DemoClient } from "./client.js";
import { compareMoves } from "./compare.js";
import { type MoveContext, move } from "./move.js";
import { type DemoResult, faults } from "./result.js";
import { Story } from "./story.js";

const CONTAINER = "demo-redis";
const PORT = 6379;
const KEYS = 65_536;
const REDIS_START_MS = 60_000;
const [FROM, TO] = ["vm-a", "vm-b"];

export interface DemoOptions {
  readonly io: Io;
  /** Ctrl-C: the demo stops where it is, clears up and rejects. */
  readonly signal: AbortSignal;
  /** Leaves the lab and Redis as they are at the end. */
  readonly keep: boolean;
  /** A client of the daemon, started when none runs. */
  readonly daemon: () => Promise<DaemonClient>;
  /** Ends the daemon when it has no VM left. */
  readonly stopUnusedDaemon: () => Promise<void>;
}

/** Plays the whole demo. @throws MWARP_E_WARP naming each fault when a key, an answer or the connection was lost */
export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  const story = new Story(options.io);
  story.begin("the lab: two VMs on one host");
  const found = labStatus();
  const isOurs = found.state !== "up";
  let ended = false;
  try {
    const lab = isOurs ? await bringUp(options, story) : found;
    const result = await play(options, story, lab);
    const wrong = faults(result);
    if (wrong.length > 0) throw new MwarpError("MWARP_E_WARP", "the demo lost something", { details: wrong });
    ended = true;
    return result;
  } finally {
    if (!(ended && options.keep)) await clearUp(options, story, isOurs);
  }
}

/** What the result means and what to type next, for people. */
export function closingWords(result: DemoResult, keep: boolean): string {
  const next = keep
    ? ["mwarp ps", `mwarp migrate ${CONTAINER} --to ${FROM}`, `mwarp logs ${CONTAINER}`, "mwarp lab down"]
    : ["mwarp demo --keep      the same, and the lab stays up for you", "mwarp --help"];
  return [
    "",
    compareMoves(result.moves),
    "Next, type:",
    ...next.map((command) => `  bin/${command}`),
    "",
  ].join("\n");
}

async function bringUp({ signal }: DemoOptions, story: Story): Promise<LabStatus> {
  const onProgress = ({ message }: LabProgress): void => story.say(message);
  return (await labUp({ vms: 2 }, { signal, onProgress })).status;
}

async function play(options: DemoOptions, story: Story, lab: LabStatus): Promise<DemoResult> {
  const { io, signal } = options;
  story.say(`accelerator ${verdict(lab.accelerator)}; memory of the VMs ${verdict(lab.backing)}`);
  const daemon = await options.daemon();
  await daemon.agentsReady([FROM, TO], signal);

  story.begin(`a Redis in ${FROM}`);
  const address = await startRedis(daemon, lab, signal);
  await using client = DemoClient.start(lab.namespace!, address, PORT, signal);
  await client.ready(REDIS_START_MS);
  const data = formatBytes(KEYS * VALUE_BYTES);
  await story.counted(`loading ${data} in ${KEYS} keys at ${address}:${PORT}`, KEYS, (progress) =>
    client.load(KEYS, progress),
  );
  await client.startTraffic();
  story.say("a client reads and writes from here on, over one TCP connection");

  const context: MoveContext = { io, story, daemon, client, container: CONTAINER, keys: KEYS, signal };
  story.begin(`warp: ${FROM} -> ${TO}, its memory changes owner`);
  const there = await move(context, TO, "warp");
  story.begin(`warp: ${TO} -> ${FROM}, and back`);
  const back = await move(context, FROM, "warp");
  story.begin(`cold: ${FROM} -> ${TO}, checkpoint and restore with the memory sent over the VMs' network`);
  const cold = await move(context, TO, "cold");
  return {
    accelerator: lab.accelerator?.kind ?? "unknown",
    backing: lab.backing?.kind ?? "unknown",
    keys: KEYS,
    data_bytes: KEYS * VALUE_BYTES,
    moves: [there, back, cold],
  };
}

const verdict = (found: LabStatus["accelerator"]): string =>
  found === null ? "unknown" : `${found.kind} (${found.reason})`;

/** Starts the container; gives its address. */
async function startRedis(daemon: DaemonClient, lab: LabStatus, signal: AbortSignal): Promise<string> {
  await daemon.removeIfThere(CONTAINER);
  const listing = await daemon.run(plainContainer(CONTAINER, FROM, lab.rootfs.redis, redisCommand()), signal);
  return listing.container.spec.network.ipv4;
}

/** No files, so that only memory counts; THP as the VM has it (Redis switches it off for itself otherwise). */
function redisCommand(): string[] {
  const settings = ["--port", String(PORT), "--protected-mode", "no", "--disable-thp", "no"];
  return ["redis-server", ...settings, "--save", "", "--appendonly", "no"];
}

async function clearUp(options: DemoOptions, story: Story, isOurs: boolean): Promise<void> {
  if (isOurs) {
    await labDown({});
    await options.stopUnusedDaemon();
    story.say("the lab is down again");
    return;
  }
  const daemon = await options.daemon();
  await daemon.remove(CONTAINER, { force: true }).catch((error: unknown) => {
    // It was never started, or its VM is gone: nothing of the demo is left either way.
    story.say(`${CONTAINER} was not removed: ${error instanceof Error ? error.message : error}`);
  });
}
