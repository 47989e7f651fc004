/** `mwarp lab`: VMs of mWarp's own on this host. */

import { setTimeout as sleep } from "node:timers/promises";
import { Option } from "commander";
import { MwarpError } from "../../errors.js";
import type { LabOptions, LabProgress, LabStatus } from "../../lab/index.js";

import { formatBytes } from "../output/format.js";
import { plain } from "../output/plain.js";
import { parseCount, parseName, parseSize } from "../parse.js";
import { type Register, type Session, withJson } from "../session.js";

interface UpOptions {
  readonly vms: number;
  readonly memory: number;
  readonly cpus: number;
  readonly backing: NonNullable<LabOptions["backing"]>;
  readonly hugepages?: NonNullable<LabOptions["hugepages"]>;
  readonly accel: NonNullable<LabOptions["accelerator"]>;
  readonly name?: string;
  readonly quiet?: true;
}

export const registerLab: Register = (program, session) => {
  const lab = program.command("lab").description("start and end VMs of mWarp's own on this host");

  withJson(
    lab.command("up").description("build the guest image (cached), boot the VMs, wait for their agents"),
  )
    .option("--vms <count>", "number of VMs: vm-a, vm-b, ...", parseCount(1), 2)
    .addOption(
      new Option("--memory <size>", "memory of each VM").argParser(parseSize).default(2 * 1024 ** 3, "2G"),
    )
    .option("--cpus <count>", "virtual processors of each VM", parseCount(1), 1)
    .addOption(
      new Option(
        "--backing <kind>",
        "host memory of the VMs: 4 KiB pages; transparent 2 MiB pages, as many as the host finds; 2 MiB pages reserved " +
          "for them; auto reserves when enough memory stays free, else 4k",
      )
        .choices(["auto", "4k", "thp", "hugetlb"])
        .default("auto"),
    )
    .addOption(
      new Option("--hugepages [when]", "older spelling of --backing: on is hugetlb, off is 4k")
        .choices(["auto", "on", "off"])
        .preset("on")
        .conflicts("backing"),
    )
    .addOption(
      new Option("--accel <kind>", "auto uses KVM when a probe shows that it really runs a guest")
        .choices(["auto", "kvm", "tcg"])
        .default("auto"),
    )
    .option("--name <name>", "tells labs with different MWARP_RUN_DIR apart", parseName)
    .option("-q, --quiet", "no progress")
    .action(async (options: UpOptions) => {
      session.requireRoot("mwarp lab up");
      const { labUp } = await import("../../lab/index.js");
      const { status } = await session.interruptible((signal) =>
        labUp(
          {
            ...(options.name === undefined ? {} : { name: options.name }),
            vms: options.vms,
            memory: options.memory,
            cpus: options.cpus,
            ...(options.hugepages === undefined
              ? { backing: options.backing }
              : { hugepages: options.hugepages }),
            accelerator: options.accel,
          },
          { signal, onProgress: tell(session, options.quiet === true) },
        ),
      );
      await waitForAgents(session, status.vms.length);
      await showStatus(session, status);
    });

  withJson(lab.command("down").description("end the lab's VMs and clear everything it made; safe to repeat"))
    .option("-q, --quiet", "no progress")
    .action(async (options: { readonly quiet?: true }) => {
      session.requireRoot("mwarp lab down");
      const { labDown } = await import("../../lab/index.js");
      await labDown({ onProgress: tell(session, options.quiet === true) });
      const { stopUnusedDaemon } = await import("../stop-daemon.js");
      await stopUnusedDaemon(session.io, (text) => session.say(text));
      if (session.json) session.document({ state: "down" });
      else session.say("the lab is down");
    });

  withJson(lab.command("status").description("say what the lab is made of")).action(async () => {
    const { labStatus } = await import("../../lab/index.js");
    await showStatus(session, labStatus());
  });
};

/** Agents connect within a second or two of the guest being up; more under TCG on a busy host. */
const AGENT_TIMEOUT_MS = 90_000;
const AGENT_POLL_MS = 200;

/** The lab is up once `mwarp run` would work. @throws MWARP_E_AGENT_UNREACHABLE */
async function waitForAgents(session: Session, count: number): Promise<void> {
  const daemon = await session.daemon();
  const deadline = performance.now() + AGENT_TIMEOUT_MS;
  await session.interruptible(async (signal) => {
    while (true) {
      const { vms } = await daemon.vms(signal);
      const silent = vms.filter((vm) => vm.state !== "ready");
      if (silent.length === 0 && vms.length >= count) return;
      if (performance.now() > deadline)
        throw new MwarpError("MWARP_E_AGENT_UNREACHABLE", "the lab is up, but not all of its agents answer", {
          details: silent.map((vm) => `${vm.name}: ${vm.error?.message ?? vm.state}`),
        });
      await sleep(AGENT_POLL_MS, undefined, { signal });
    }
  });
}

function tell(session: Session, quiet: boolean): (progress: LabProgress) => void {
  return ({ step, message }) => {
    if (!quiet) session.sayPainted(`${session.paint("dim", `${step}:`)} ${plain(message)}`);
  };
}

async function showStatus(session: Session, status: LabStatus): Promise<void> {
  if (session.json) return session.document(status);
  const { settings, accelerator, backing } = status;
  session.print(`lab: ${status.state}`);
  for (const problem of status.problems) session.print(`  ${problem}`);
  if (settings !== null)
    session.print(
      `${settings.vms} VMs of ${formatBytes(settings.memoryBytes)}, ${settings.cpus} processor(s) each, ` +
        `network namespace ${status.namespace}`,
    );
  if (accelerator !== null) session.print(`accelerator: ${accelerator.kind} (${accelerator.reason})`);
  if (backing !== null) session.print(`memory of the VMs: ${backing.kind} (${backing.reason})`);
  for (const [name, directory] of Object.entries(status.rootfs))
    session.print(`rootfs ${name}: ${directory}`);
  if (status.vms.length === 0) return;
  await session.table(
    ["VM", "STATE", "PID", "ADDRESS"],
    status.vms.map(({ endpoint, alive }) => [
      endpoint.name,
      alive ? "running" : "ended",
      String(endpoint.pid),
      endpoint.address ?? "-",
    ]),
  );
}
