/** A container's shim with a terminal (native/guest/shim.c, terminal.c, unread.c), with a real pty and no container. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AttachedLog } from "../../../src/daemon/attached-log.js";
import {
  encodeTerminalFrame,
  FrameKinds,
  type TerminalFrame,
  TerminalFrameReader,
  typedFrames,
  windowFrame,
} from "../../../src/protocol/terminal.js";
import { until } from "../../support/wait.js";

const quick = { timeoutMs: 10_000, intervalMs: 10 };

/** A shim whose "container" is a command on a new pty; a second one of the same directory is the one of another VM. */
class Shim {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #heard: TerminalFrame[] = [];
  #socket: Socket | null = null;
  #leader: number | null = null;

  constructor(folder: string, name: string, command: readonly string[]) {
    this.#folder = folder;
    const job = path.join(folder, name);
    mkdirSync(job);
    rmSync(path.join(folder, "pid"), { force: true });
    const console = ["dist/test-support/console", path.join(job, "console"), path.join(folder, "pid")];
    this.#child = spawn("dist/native/mwarp-guest", [
      ...["shim", "--terminal", folder, job, "--"],
      ...[...console, ...command],
    ]);
  }

  async attach(): Promise<void> {
    const socket = await until(
      "the shim's socket",
      async () => {
        const candidate = connect(path.join(this.#folder, "terminal"));
        const outcome = await Promise.race([
          once(candidate, "connect").then(() => "up"),
          once(candidate, "error").then(() => "down"),
        ]).catch(() => "down");
        return outcome === "up" ? candidate : undefined;
      },
      quick,
    );
    const frames = new TerminalFrameReader();
    socket.on("data", (data) => this.#heard.push(...frames.push(data)));
    this.#socket = socket;
  }

  send(...frames: readonly Buffer[]): void {
    for (const frame of frames) this.#socket?.write(frame);
  }

  type(text: string): void {
    this.send(...typedFrames(Buffer.from(text, "latin1")));
  }

  takenBytes(): number {
    return this.#heard
      .filter(({ kind }) => kind === FrameKinds.taken)
      .reduce((sum, { bytes }) => sum + bytes.readUInt32LE(0), 0);
  }

  /** What the shim answers to "take" or "give": 0 or a negative errno. */
  async ask(kind: typeof FrameKinds.take | typeof FrameKinds.give): Promise<number> {
    this.#heard.length = 0;
    this.send(encodeTerminalFrame(kind));
    const answer = await until(
      "an answer",
      async () => this.#heard.find((frame) => frame.kind === kind),
      quick,
    );
    return answer.bytes.readInt32LE(0);
  }

  said(): string {
    const file = path.join(this.#folder, "log");
    if (!existsSync(file)) return "";
    return new AttachedLog(0)
      .push(readFileSync(file))
      .map(({ bytes }) => bytes.toString("latin1"))
      .join("");
  }

  async saying(text: string): Promise<void> {
    await until(text, async () => (this.said().includes(text) ? true : undefined), quick);
  }

  /** To the command; the file that names it may be another shim's by then. */
  signal(signal: NodeJS.Signals): void {
    this.#leader ??= Number(readFileSync(path.join(this.#folder, "pid"), "utf8"));
    process.kill(-this.#leader, signal);
  }

  /** Its exit code; the shim has ended by then. */
  async ended(): Promise<number> {
    if (this.#child.exitCode === null) await once(this.#child, "exit");
    return Number(readFileSync(path.join(this.#folder, "exit"), "utf8"));
  }

  async end(): Promise<void> {
    this.#socket?.destroy();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    if (this.#leader !== null || existsSync(path.join(this.#folder, "pid"))) this.signal("SIGKILL");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 2_000);
    await once(this.#child, "exit");
    clearTimeout(timer);
  }
}

describe("a shim with a terminal", () => {
  let folder: string;
  const shims: Shim[] = [];
  const start = (name: string, ...command: readonly string[]): Shim => {
    const shim = new Shim(folder, name, command);
    shims.push(shim);
    return shim;
  };
  beforeEach(() => {
    folder = mkdtempSync("/tmp/mwt-term-");
  });
  afterEach(async () => {
    for (const shim of shims.splice(0)) await shim.end();
    rmSync(folder, { recursive: true });
  });

  it("keeps what the command says and its exit code, and a window of the size it is told", async () => {
    const shim = start("job", "sh", "-c", "printf 'name: '; read name; stty size; echo hello $name; exit 7");
    await shim.attach();
    await shim.saying("name: ");
    shim.send(windowFrame({ rows: 33, columns: 101 }));
    shim.type("you\r");
    expect(await shim.ended()).toBe(7);
    expect(shim.said()).toBe("name: you\r\n33 101\r\nhello you\r\n");
    expect(shim.takenBytes()).toBe(4);
  });

  it("does not cut lines while nobody looks", async () => {
    const shim = start("job", "sh", "-c", "printf one; sleep 0.3; echo two; sleep 0.2");
    await shim.ended();
    expect(readFileSync(path.join(folder, "log"), "latin1")).toMatch(/^\S+ stdout F onetwo\r\n$/);
  });

  it("sends a key that interrupts to the group in the foreground", async () => {
    const shim = start(
      "job",
      "sh",
      "-c",
      "trap 'echo got it; exit 3' INT; echo up; while :; do sleep 0.05; done",
    );
    await shim.attach();
    await shim.saying("up");
    shim.type("\x03");
    expect(await shim.ended()).toBe(3);
    expect(shim.said()).toContain("got it");
  });

  /** Reads in pieces as a program does: each read(2) on a line of its own, escaped. */
  const reader = (set: string): string[] => [
    "perl",
    "-e",
    `$| = 1; system("stty", ${set}) == 0 or die; print "set\\n"; $SIG{USR1} = sub { $go = 1 }; ` +
      `select(undef, undef, undef, 0.02) until $go; ` +
      `while (defined($n = sysread(STDIN, $_, 5000))) { s/([^!-~])/sprintf("%%%02x", ord $1)/ge; print "<$_>\\n"; }`,
  ];

  it.each([
    {
      what: "lines, an end-of-file and the beginning of a line",
      set: '"-echo"',
      typed: "first\rsec\x7fond\r\x04no newline\x04\x16\x03begun",
      more: " and ended\r",
      newline: "\r\n",
      read: ["first%0a", "seond%0a", "", "no%20newline", "%03begun%20and%20ended%0a"],
    },
    {
      what: "keys",
      set: '"raw", "-echo"',
      typed: "a\r\x03\x04\x00\xff\x11b",
      more: "c",
      newline: "\n",
      read: ["a%0d%03%04%00%ff%11bc"],
    },
  ])("carries over what nobody has read: $what", async ({ set, typed, more, newline, read }) => {
    const source = start("source", ...reader(set));
    await source.attach();
    await source.saying("set");
    source.type(typed);
    await until(
      "all to be taken",
      async () => (source.takenBytes() === Buffer.from(typed, "latin1").length ? true : undefined),
      quick,
    );
    source.signal("SIGSTOP");
    expect(await source.ask(FrameKinds.take)).toBe(0);
    // From here on nothing is accepted.
    source.type("never");
    const before = source.said();
    rmSync(path.join(folder, "log"));
    const destination = start("destination", ...reader(set));
    await until("its terminal", async () => (destination.said().includes("set") ? true : undefined), quick);
    await destination.attach();
    destination.signal("SIGSTOP");
    expect(await destination.ask(FrameKinds.give)).toBe(0);
    expect(existsSync(path.join(folder, "input"))).toBe(false);
    destination.type(more);
    await until(
      "what follows",
      async () => (destination.takenBytes() === more.length ? true : undefined),
      quick,
    );
    destination.signal("SIGCONT");
    destination.signal("SIGUSR1");
    const wanted = read.map((piece) => `<${piece}>${newline}`).join("");
    await destination.saying(wanted);
    // Nothing of it was said a second time by putting it back.
    expect(destination.said()).toBe(`set${newline}${wanted}`);
    expect(before).toBe(`set${newline}`);
    expect(source.takenBytes()).toBe(0);
  });

  it("gives what it took back to the same terminal: a move that failed", async () => {
    const shim = start("job", ...reader('"-echo"'));
    await shim.attach();
    await shim.saying("set\r");
    const lines = Array.from({ length: 900 }, (_, i) => `line ${i}\r`).join("");
    shim.type(lines);
    await until(
      "all to be taken",
      async () => (shim.takenBytes() === lines.length ? true : undefined),
      quick,
    );
    shim.signal("SIGSTOP");
    expect(await shim.ask(FrameKinds.take)).toBe(0);
    expect(await shim.ask(FrameKinds.give)).toBe(0);
    shim.signal("SIGCONT");
    shim.signal("SIGUSR1");
    // More than the line discipline holds: what did not fit is typed again.
    await shim.saying("<line%20899%0a>");
    const read = [...shim.said().matchAll(/<line%20(\d+)%0a>/g)].map(([, n]) => Number(n));
    expect(read).toEqual(Array.from({ length: 900 }, (_, i) => i));
  });

  it("takes nothing twice from a file that was left behind", async () => {
    writeFileSync(path.join(folder, "input"), "L");
    const shim = start("job", ...reader('"-echo"'));
    await shim.attach();
    await shim.saying("set\r");
    shim.signal("SIGSTOP");
    expect(await shim.ask(FrameKinds.take)).toBe(0);
    expect(existsSync(path.join(folder, "input"))).toBe(false);
    expect(await shim.ask(FrameKinds.give)).toBe(0);
  });
});
