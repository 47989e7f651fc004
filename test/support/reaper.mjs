#!/usr/bin/env node
// Outlives a test process that dies: `reaper.mjs BASE PROGRAM [SUFFIX]`. BASE holds the run and state directories of one test lab, whose
// names end with SUFFIX. When stdin ends without the word "done", it takes the lab down the proper way, then kills what still carries the lab's run directory in
// its environment, removes the network namespaces named in lab.json, and BASE itself.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { labProcesses, readProc } from "./processes.mjs";

const [base, program, suffix = ""] = process.argv.slice(2);
const runDir = path.join(base, `run${suffix}`);
let words = "";

function reap() {
  const lab = readProc(path.join(runDir, "lab.json"));
  const env = { ...process.env, MWARP_RUN_DIR: runDir, MWARP_STATE_DIR: path.join(base, `state${suffix}`) };
  spawnSync(program, ["lab", "down"], { env, stdio: "ignore", timeout: 30_000, killSignal: "SIGKILL" });
  for (const { pid } of labProcesses(runDir)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended by itself.
    }
  }
  const namespaces = existsSync("/run/netns") ? readdirSync("/run/netns") : [];
  for (const name of namespaces) {
    if (lab.includes(`"${name}"`) || lab.includes(`/run/netns/${name}"`)) {
      spawnSync("ip", ["netns", "delete", name], { stdio: "ignore" });
    }
  }
  rmSync(base, { recursive: true, force: true });
}

process.stdin.setEncoding("utf8");
process.stdin.on("data", (text) => {
  words += text;
});
process.stdin.on("end", () => {
  if (!words.includes("done")) reap();
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => undefined);
