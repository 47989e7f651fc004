/**
 * What an agent can do for connections that nobody has accepted depends on its kernel in too many ways to be told from versions: where
 * its structures have what, what BPF may do there, how it was built. So it is tried, once per boot, before anybody relies on it.
 */
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import { readIfThere, writeAtomic } from "../files.js";
import { log, timed } from "../log.js";
import { HELPER, TCP_TRIAL } from "../paths.js";
import { kill, pollUntil } from "../process.js";
import { type KernelFacts, kernelFacts } from "./facts.js";
import { type TcpLayout, TcpLayoutSchema } from "./tcp-layout.js";
import { type LooseSocket, readLoose } from "./tcp-sockets.js";

/** As native/guest/trial.c has it. */
const PORT = 77;
const PEER_PORT = 7777;
const WORD = "mWarp";
const AGREED = {
  ...{ kind: "waiting", fromPeer: 0x70000001, toPeer: 0x60000001, mss: 1400 },
  ...{ scales: { send: 7, receive: 6 }, sack: true, timestamps: null },
} as const;
const MADE_MS = 10_000;
const TAKEN_MS = 1_000;

/** Of this boot. An agent that is started anew reads on where the last one was. */
const TrialSchema = z.object({ bootId: z.string(), tcp: z.nullable(TcpLayoutSchema) });

let known: Promise<TcpLayout | null> | null = null;
let outcome: TcpLayout | null = null;

/**
 * The layout with what stood the trial: null when such connections are not read as they are, and without `admit` when the kernel does
 * not take any over. The first call takes its time.
 */
export function triedTcp(): Promise<TcpLayout | null> {
  known ??= timed("TCP trial", load).then(
    (tcp) => {
      outcome = tcp;
      return tcp;
    },
    (error: unknown) => {
      known = null;
      throw error;
    },
  );
  return known;
}

/** The same as far as it is known by now. */
export const triedTcpSoFar = (): TcpLayout | null => outcome;

async function load(): Promise<TcpLayout | null> {
  const facts = await kernelFacts();
  const kept = await readIfThere(TCP_TRIAL);
  const trial = kept === null ? null : TrialSchema.safeParse(JSON.parse(kept));
  if (trial?.success === true && trial.data.bootId === facts.bootId) return trial.data.tcp;
  const tcp = facts.tcp === null ? null : await tried(facts, facts.tcp);
  await writeAtomic(TCP_TRIAL, JSON.stringify({ bootId: facts.bootId, tcp }));
  return tcp;
}

async function tried(facts: KernelFacts, layout: TcpLayout): Promise<TcpLayout | null> {
  const child = spawn(HELPER, ["tcp-trial", String(layout.admit ?? 0)], { stdio: ["pipe", "pipe", "pipe"] });
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("close", (code) => resolve(`it ended with ${code}`));
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (data: Buffer) => {
      said += data;
    });
  // It may end without waiting for it.
  child.stdin.on("error", () => undefined);
  try {
    let end: string | null = null;
    void ended.then((why) => {
      end = why;
    });
    const made = await pollUntil("connections to try", () => end ?? /^made.*$/m.exec(said)?.[0] ?? null, {
      timeoutMs: MADE_MS,
      everyMs: 2,
    });
    const [, families, admitted] = /^made (\d)( admitted)?$/.exec(made) ?? [];
    if (families === undefined) throw new MwarpError("MWARP_E_UNSUPPORTED", `${made}: ${said.trim()}`);
    const found = await look(() => readLoose(facts, layout, child.pid as number), {
      called: Number(families),
      agreed: admitted === undefined ? 0 : Number(families),
    });
    if (found.called !== Number(families))
      throw new MwarpError("MWARP_E_UNSUPPORTED", `${found.called} of ${families} are found`);
    if (admitted !== undefined && found.agreed === Number(families)) return layout;
    log("info", `this kernel takes over no connections that wait to be accepted: ${said.trim()}`);
    return { ...layout, admit: null };
  } catch (error) {
    log("warn", `connections that no process has cannot be read from this kernel: ${String(error)}`);
    return null;
  } finally {
    if (child.pid !== undefined) kill(child.pid);
    await ended;
  }
}

/** Numbers of connections that were made, by calls and by agreements. */
interface Found {
  readonly called: number;
  readonly agreed: number;
}

/** Packets take a moment. */
async function look(read: () => LooseSocket[], wanted: Found): Promise<Found> {
  for (const end = performance.now() + TAKEN_MS; ; ) {
    const all = read();
    const found = { called: all.filter(isCalled).length, agreed: all.filter(isAgreed).length };
    if (found.called === wanted.called && found.agreed === wanted.agreed) return found;
    if (performance.now() > end) return found;
    await sleep(5);
  }
}

const isCalled = ({ connection, received }: LooseSocket): boolean =>
  connection.kind === "waiting" && connection.port === PORT && received.toString() === WORD;

function isAgreed({ connection, fault }: LooseSocket): boolean {
  const found = Object.fromEntries(
    Object.keys(AGREED).map((key) => [key, connection[key as keyof typeof AGREED]]),
  );
  return (
    fault === null && connection.peerPort === PEER_PORT && JSON.stringify(found) === JSON.stringify(AGREED)
  );
}
