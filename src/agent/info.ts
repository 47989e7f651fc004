/** Facts of this guest, as `hello` and `info` give them. */
import { readFile } from "node:fs/promises";
import { hostname, release } from "node:os";
import { AGENT_PROTOCOL_VERSION } from "../protocol/agent.js";
import type { GuestInfo } from "../protocol/guest-info.js";
import { speaksIpv6 } from "./containers/network.js";
import { faultCosts } from "./fault-costs.js";
import { readIfThere } from "./files.js";
import { kernelFacts } from "./kernel/facts.js";
import { triedTcp, triedTcpSoFar } from "./kernel/tcp-trial.js";
import { haveQuickTools } from "./quick-tools.js";
import { ToolFinder } from "./tool-versions.js";

export const AGENT_VERSION = "0.1.0";

const tools = new ToolFinder();

async function memory(): Promise<Map<string, number>> {
  const lines = (await readFile("/proc/meminfo", "utf8")).matchAll(/^(\w+):\s+(\d+) kB$/gm);
  return new Map([...lines].map(([, name, kib]) => [name as string, Number(kib) * 1024]));
}

async function cpuFlags(): Promise<string[]> {
  const flags = /^flags\s*:\s*(.*)$/m.exec(await readFile("/proc/cpuinfo", "utf8"))?.[1] ?? "";
  return flags.split(/\s+/).filter(Boolean).sort();
}

/** AT_MINSIGSTKSZ of the auxiliary vector (getauxval(3)): pairs of 64-bit words, type and value. */
const AT_MINSIGSTKSZ = 51n;

/** 0 when the kernel does not say (before 5.14). */
async function signalFrameBytes(): Promise<number> {
  const vector = await readFile("/proc/self/auxv");
  for (let at = 0; at + 16 <= vector.length; at += 16)
    if (vector.readBigUInt64LE(at) === AT_MINSIGSTKSZ) return Number(vector.readBigUInt64LE(at + 8));
  return 0;
}

async function thpMode(): Promise<string> {
  const text = await readIfThere("/sys/kernel/mm/transparent_hugepage/enabled");
  return /\[(\w+)\]/.exec(text ?? "")?.[1] ?? "absent";
}

/** Starts what takes long, so that the first `hello` finds it done. */
export async function warmUp(): Promise<void> {
  await Promise.all([kernelFacts(), tools.versions()]);
  // By itself: it measures.
  await faultCosts();
  await triedTcp();
}

/** Who greets does not wait for what only a migration has to know: connections that wait are said not to be taken over until that is known. */
export async function guestInfo(asked: "to greet" | "to know"): Promise<GuestInfo> {
  const [facts, versions, sizes] = await Promise.all([kernelFacts(), tools.versions(), memory()]);
  return {
    protocol: AGENT_PROTOCOL_VERSION,
    agentVersion: AGENT_VERSION,
    bootId: facts.bootId,
    hostname: hostname(),
    kernel: release(),
    ...versions,
    quickTools: haveQuickTools(),
    ipv6: await speaksIpv6(),
    admitsConnections: typeof (asked === "to know" ? await triedTcp() : triedTcpSoFar())?.admit === "number",
    memTotalBytes: sizes.get("MemTotal") ?? 0,
    memAvailableBytes: sizes.get("MemAvailable") ?? 0,
    swapTotalBytes: sizes.get("SwapTotal") ?? 0,
    transparentHugepages: await thpMode(),
    faultCosts: await faultCosts(),
    cpuFlags: await cpuFlags(),
    signalFrameBytes: await signalFrameBytes(),
    directMapBase: facts.directMapBase,
    structPage: {
      vmemmapBase: facts.vmemmapBase,
      bytes: facts.page.bytes,
      flagsOffset: facts.page.flags,
      compoundHeadOffset: facts.page.compoundHead,
      mappingOffset: facts.page.mapping,
      refcountOffset: facts.page.refcount,
    },
    taskStruct: {
      pidOffset: facts.taskStruct.pid,
      mmOffset: facts.taskStruct.mm,
      mmPgdOffset: facts.mmPgd,
    },
    kernelRootGpa: facts.kernelRootGpa,
  };
}
