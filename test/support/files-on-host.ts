/**
 * The files of a container without one: an overlay and a volume on this host, a program that changes them all the time, and moves of
 * both from one directory to another by the very parts that an agent moves them with. The program is stopped meanwhile, and goes on with
 * what has come in the place of what it had.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect } from "vitest";
import type { LayerArchive } from "../../src/agent/migration/layer-archive.js";
import type { WatchedFiles } from "../../src/agent/migration/layer-watch.js";
import { type LineProcess, startLines } from "./lines.js";
import { projectRoot } from "./mwarp.js";
import { until } from "./wait.js";

process.env.MWARP_GUEST_HELPER = path.join(projectRoot, "dist/native/mwarp-guest");
const { LayerArchive: Archive } = await import("../../src/agent/migration/layer-archive.js");
const { LayerWatch } = await import("../../src/agent/migration/layer-watch.js");

const TREES = ["upper", "volumes/data"];
const VERIFY_MS = 60_000;
const signal = new AbortController().signal;

/** Operation and arguments of the agent's helper (native/guest/pages.c). */
const INCOMING = 21;
const [BEFORE_TAR, AFTER_TAR] = [0, 1];

const MOST_OUTPUT = 1 << 28;
const helper = (argv: readonly string[], input: Uint8Array): Buffer =>
  execFileSync(process.env.MWARP_GUEST_HELPER!, argv, { input, maxBuffer: MOST_OUTPUT });

/** All that can be said of the files in a directory, a line each; as the overlay's own directories have them. */
const manifest = (dir: string): string[] =>
  execFileSync(path.join(projectRoot, "dist/test/manifest"), [dir, ...TREES], { maxBuffer: MOST_OUTPUT })
    .toString()
    .split("\n");

/** As the agent asks its helper, of one that ends with the request. */
function incoming(dir: string, changes: Uint8Array, when: number): void {
  const body = Buffer.concat([Buffer.from(`${dir}\0`), changes]);
  const head = Buffer.alloc(16);
  for (const [index, word] of [INCOMING, when, 0, body.length].entries()) head.writeUInt32LE(word, index * 4);
  const answer = helper(["pages"], Buffer.concat([head, body]));
  expect(answer.readInt32LE(0), "status of what tar does not do").toBe(0);
}

export class FilesOnHost implements AsyncDisposable {
  /** Of a tmpfs of its own. */
  readonly #base: string;
  #program: LineProcess | null = null;
  #here: "a" | "b" = "a";

  constructor() {
    this.#base = mkdtempSync("/dev/shm/mwt-files-");
    execFileSync("mount", ["-t", "tmpfs", "files", this.#base]);
    for (const name of ["seen", "data", "group", "lower/made/deep/deeper"])
      mkdirSync(this.#path(name), { recursive: true });
    writeFileSync(this.#path("group/cgroup.procs"), "");
    for (const name of ["one", "two", "deep/three", "deep/four", "deep/deeper/five"])
      writeFileSync(this.#path(`lower/made/${name}`), `${name} of the lower layer`);
    this.#makeSide("a");
    this.#show();
  }

  #path(name: string): string {
    return path.join(this.#base, name);
  }

  #makeSide(side: string): void {
    for (const name of ["upper", "work", "volumes/data"])
      mkdirSync(this.#path(`${side}/${name}`), { recursive: true });
  }

  #show(): void {
    const side = this.#path(this.#here);
    const layers = `lowerdir=${this.#path("lower")},upperdir=${side}/upper,workdir=${side}/work,index=on,nfs_export=on`;
    execFileSync("mount", ["-t", "overlay", "overlay", this.#path("seen"), "-o", layers]);
    execFileSync("mount", ["--bind", `${side}/volumes/data`, this.#path("data")]);
  }

  #hide(): void {
    for (const name of ["seen", "data"]) execFileSync("umount", ["-l", this.#path(name)]);
  }

  /** @param seed of what the program does */
  async start(seed: number): Promise<void> {
    const program = path.join(projectRoot, "dist/test/files");
    const argv = [program, String(seed), "100", this.made, this.data];
    this.#program = await startLines(["env", "FILES_ALONE=1", ...argv]);
    await this.#program.waitFor(/files ready/);
    this.addTask(this.#program.pid);
  }

  /** Counts a process as the container's. */
  addTask(pid: number): void {
    writeFileSync(this.#path("group/cgroup.procs"), `${pid}\n`);
  }

  #signal(name: "SIGSTOP" | "SIGCONT" | "SIGUSR1" | "SIGKILL"): void {
    process.kill(this.#program!.pid, name);
  }

  async #stop(): Promise<void> {
    this.#signal("SIGSTOP");
    const stat = `/proc/${this.#program!.pid}/stat`;
    await until(
      "the program to stop",
      async () => (/\) T /.test(readFileSync(stat, "utf8")) ? true : undefined),
      {
        timeoutMs: 10_000,
        intervalMs: 1,
      },
    );
  }

  async #pack(archive: LayerArchive, names: Uint8Array): Promise<Buffer> {
    const pieces: Buffer[] = [];
    const write = async (data: Uint8Array): Promise<void> => void pieces.push(Buffer.from(data));
    await archive.send(names, { write });
    return Buffer.concat(pieces);
  }

  #unpack(dir: string, archive: Buffer): void {
    const flags = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner"];
    execFileSync("tar", ["-C", dir, "-xpf", "-", ...flags], {
      input: archive,
      stdio: ["pipe", "ignore", "pipe"],
    });
  }

  /** Where it has its volume. */
  get data(): string {
    return this.#path("data");
  }

  /** Where the container has its writable layer. */
  get made(): string {
    return this.#path("seen/made");
  }

  /**
   * From one directory to the other; gives the bytes of both passes.
   * @param meanwhile between the passes
   * @param how `whole`: as if the first pass had come to nothing, after it has left something
   * @param within the first pass: between the look at all files and the archive of them, and before its end
   */
  async move(
    meanwhile: () => Promise<void> | void,
    how: "rest" | "whole" = "rest",
    within: { readonly looked?: () => void; readonly packed?: () => void } = {},
  ): Promise<{ first: number; rest: number; whole: boolean }> {
    const from = this.#path(this.#here);
    const there = this.#here === "a" ? "b" : "a";
    this.#makeSide(there);
    const to = this.#path(there);
    const files: WatchedFiles = {
      dir: from,
      cgroup: this.#path("group"),
      root: this.#path("seen"),
      trees: TREES,
    };
    const watch = new LayerWatch(files);
    await watch.remember(signal);
    within.looked?.();
    const names = Buffer.from(TREES.map((tree) => `${tree}\0`).join(""));
    const first = await this.#pack(new Archive(from, "live"), names);
    within.packed?.();
    const large = await watch.passed(signal);
    // What does not hold together is sent again as a whole.
    let fits = true;
    try {
      this.#unpack(to, first);
    } catch {
      fits = false;
    }
    await watch.know(helper(["digests", to], large), signal);
    await meanwhile();
    if (this.#program !== null) await this.#stop();
    const told = await watch.changes(!fits || how === "whole", signal);
    const blocks: Buffer[] = [];
    for await (const data of watch.blocks(told.blocksBytes, signal)) blocks.push(data);
    const rest = await this.#pack(new Archive(from, "still"), told.names);
    incoming(to, told.changes, BEFORE_TAR);
    if (told.blocksBytes > 0) helper(["patch", to], Buffer.concat(blocks));
    if (told.names.length > 0) this.#unpack(to, rest);
    incoming(to, told.changes, AFTER_TAR);
    await watch.end();
    const manifests = [from, to].map((dir) => manifest(dir));
    expect(manifests[1], "files on the other side").toEqual(manifests[0]);
    this.#hide();
    rmSync(from, { recursive: true, force: true });
    this.#here = there;
    this.#show();
    return { first: first.length, rest: rest.length + told.blocksBytes, whole: told.whole };
  }

  /** The program goes on where it was stopped, and says whether everything is as it left it. */
  async verify(): Promise<string> {
    const before = this.#program!.lines.filter((line) => line.startsWith("verify")).length;
    this.#signal("SIGUSR1");
    this.#signal("SIGCONT");
    return until(
      "the program to verify",
      async () => {
        const verdicts = this.#program!.lines.filter((line) => line.startsWith("verify")).slice(before);
        return verdicts.length > 0 ? verdicts.join("\n") : undefined;
      },
      { timeoutMs: VERIFY_MS, intervalMs: 20 },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program?.[Symbol.asyncDispose]();
    this.#hide();
    execFileSync("umount", ["-l", this.#base]);
    rmSync(this.#base, { recursive: true, force: true });
  }
}
