/** Real processes: the command line as it is installed, bundled from the sources into a directory of the checkout. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { daemonPidFile } from "../../../src/paths.js";

const top = path.resolve(import.meta.dirname, "../../..");
const isRoot = process.geteuid?.() === 0;

let bundle: string;
let directory: string;
let env: NodeJS.ProcessEnv;

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function start(...argv: string[]): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [path.join(bundle, "main.js"), ...argv], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stdout!.on("data", (data: Buffer) => {
    out += data.toString();
  });
  child.stderr!.on("data", (data: Buffer) => {
    err += data.toString();
  });
  const ended = new Promise<Ended>((resolve) => child.on("close", (status) => resolve({ status, out, err })));
  return { child, ended };
}

const mwarp = (...argv: string[]): Promise<Ended> => start(...argv).ended;
const daemonPid = (): number => Number(readFileSync(daemonPidFile(env), "utf8"));

beforeAll(async () => {
  mkdirSync(path.join(top, "dist"), { recursive: true });
  bundle = mkdtempSync(path.join(top, "dist", "test-cli-"));
  directory = mkdtempSync(path.join(tmpdir(), "mwarp-test-"));
  env = {
    PATH: process.env.PATH,
    MWARP_RUN_DIR: path.join(directory, "run"),
    MWARP_STATE_DIR: path.join(directory, "state"),
    MWARP_CACHE_DIR: path.join(directory, "cache"),
  };
  await build({
    entryPoints: [path.join(top, "src/cli/main.ts")],
    outdir: bundle,
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    logLevel: "warning",
  });
}, 60_000);

afterAll(async () => {
  await mwarp("daemon", "stop");
  rmSync(bundle, { recursive: true });
  rmSync(directory, { recursive: true });
});

describe.runIf(isRoot)("the daemon, started by the command line", () => {
  it("is one, however many commands need it at the same time", async () => {
    const all = await Promise.all(Array.from({ length: 4 }, () => mwarp("ps", "--json")));
    expect(all.map(({ status, err }) => [status, err])).toEqual(all.map(() => [0, ""]));
    const { out } = await mwarp("daemon", "status", "--json");
    expect(JSON.parse(out)).toMatchObject({ pid: daemonPid() });
    const log = readFileSync(path.join(directory, "state/daemon.log"), "utf8");
    expect(log.match(/"daemon serves"/g)).toHaveLength(1);
  }, 60_000);

  it("outlives the command and its terminal: it is a session of its own", async () => {
    await mwarp("ps");
    const stat = readFileSync(`/proc/${daemonPid()}/stat`, "latin1");
    const [, , , session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    expect(Number(session)).toBe(daemonPid());
  }, 30_000);

  it("that was killed is replaced by the next command", async () => {
    await mwarp("ps");
    const killed = daemonPid();
    process.kill(killed, "SIGKILL");
    expect(await mwarp("ps", "-q")).toEqual({ status: 0, out: "", err: "" });
    expect(daemonPid()).not.toBe(killed);
  }, 60_000);

  it("ends on SIGTERM and leaves nothing in its run directory", async () => {
    await mwarp("ps");
    process.kill(daemonPid(), "SIGTERM");
    await expect.poll(() => existsSync(env.MWARP_RUN_DIR!), { timeout: 10_000 }).toBe(false);
    expect(readdirSync(path.join(directory, "state"))).toContain("daemon.log");
  }, 30_000);
});

describe("the launcher", () => {
  it("answers --version and --help without a daemon", async () => {
    const version = await mwarp("--version");
    expect(version).toEqual({ status: 0, out: "0.1.0\n", err: "" });
    expect((await mwarp()).out).toContain("Usage: mwarp");
  });

  it("ends quietly when its reader has gone", async () => {
    const { child, ended } = start("--help");
    child.stdout!.destroy();
    expect(await ended).toMatchObject({ status: 0, err: "" });
  });
});
