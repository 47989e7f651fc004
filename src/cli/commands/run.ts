/** `mwarp run`: starts a container in a VM. */
import path from "node:path";
import { Option } from "commander";
import { MwarpError } from "../../errors.js";
import type { RunSource } from "../../protocol/api.js";
import { type RuntimeName, runtimeNames, type Volume } from "../../protocol/container.js";
import type { HealthWish } from "../../protocol/health.js";
import type { RestartPolicy } from "../../protocol/restart.js";
import { attachTo, windowOf } from "../attach.js";
import { parseDetachKeys } from "../detach-keys.js";
import {
  collectEnv,
  parseCount,
  parseDuration,
  parseDurationOrNone,
  parseIpv4,
  parseIpv6,
  parseMac,
  parseName,
  parseRestart,
  parseSize,
} from "../parse.js";
import { type Register, withJson } from "../session.js";
import { collectVolumes } from "../volume-option.js";
import { DETACH_KEYS } from "./attach.js";
import { psEntry } from "./ps.js";

/** What terminals without a size take themselves to be. */
const DEFAULT_WINDOW = { rows: 24, columns: 80 };

interface RunOptions {
  readonly vm: string;
  readonly name: string;
  readonly bundle?: string;
  readonly rootfs?: string;
  readonly image?: string;
  readonly tag?: string;
  readonly env?: readonly string[];
  readonly workdir?: string;
  readonly memoryLimit?: number;
  readonly ip?: string;
  readonly ip6?: string;
  readonly mac?: string;
  readonly hostname?: string;
  readonly volume?: readonly Volume[];
  readonly restart?: RestartPolicy;
  readonly healthCmd?: string;
  readonly healthInterval?: number;
  readonly healthTimeout?: number;
  readonly healthRetries?: number;
  readonly healthStartPeriod?: number;
  /** Commander's name for --no-healthcheck. */
  readonly healthcheck: boolean;
  readonly runtime: RuntimeName;
  readonly tty?: true;
  readonly interactive?: true;
}

export const registerRun: Register = (program, session) => {
  withJson(
    program
      .command("run")
      .description("start a container in a VM; without a bundle it gets no io_uring, which cannot move"),
  )
    .usage(
      "--vm VM --name NAME (--bundle DIR | --rootfs DIR -- CMD... | --image FILE [--tag TAG] [-- CMD...])",
    )
    .requiredOption("--vm <vm>", "VM to start it in")
    .requiredOption("--name <name>", "name of the container, free on all VMs", parseName)
    .option("--bundle <dir>", "OCI bundle: config.json and root file system")
    .option("--rootfs <dir>", "root file system; the command follows after --")
    .option("--image <file>", "OCI image layout (directory or tar), or what docker save wrote")
    .option("--tag <name>", "which image of several: its tag, or repository:tag")
    .option("-e, --env <key=value>", "environment variable, may be repeated", collectEnv)
    .option("-w, --workdir <dir>", "directory the command starts in")
    .option("--memory-limit <size>", "memory limit, e.g. 512M", parseSize)
    .option("--ip <address>", "address on the bridge (default: the next free one)", parseIpv4)
    .option(
      "--ip6 <address>",
      "IPv6 address on the bridge, or none (default: a free one that ends as --ip)",
      parseIpv6,
    )
    .option("--mac <address>", "MAC address (default: made from the address)", parseMac)
    .option("--hostname <name>", "host name (default: the container's name)", parseName)
    .option(
      "-v, --volume <volume>",
      "NAME:/path[:ro], which moves with it, or /path/in/vm:/path:shared[,ro], which all VMs have; may be repeated",
      collectVolumes,
    )
    .option(
      "--restart <policy>",
      "when it has ended: no (default), on-failure[:N], always, unless-stopped",
      parseRestart,
    )
    .option("--health-cmd <command>", "command line that says by exit code 0 that it is healthy")
    .option("--health-interval <time>", "time between checks (default: 30s)", parseDuration)
    .option("--health-timeout <time>", "a check that takes longer has failed (default: 30s)", parseDuration)
    .option("--health-retries <n>", "failures in a row that make it unhealthy (default: 3)", parseCount(1))
    .option(
      "--health-start-period <time>",
      "from its start, failures do not count so long",
      parseDurationOrNone,
    )
    .option("--no-healthcheck", "no health check, whatever the image says")
    .addOption(new Option("--runtime <name>", "OCI runtime in the VM").choices(runtimeNames).default("runc"))
    .option("-t, --tty", "give it a terminal; `mwarp attach` goes there")
    .option("-i, --interactive", `with -t: attach to it at once (to detach: ${DETACH_KEYS})`)
    .argument("[command...]", "command and its arguments, after --")
    .action(async (command: string[], options: RunOptions) => {
      const source = sourceOf(command, options, session.io.cwd);
      const health = healthOf(options);
      const interactive = options.interactive === true;
      if (interactive && options.tty !== true)
        throw new MwarpError("MWARP_E_USAGE", "-i needs a terminal", { hint: "Use -it." });
      if (interactive && session.json)
        throw new MwarpError("MWARP_E_USAGE", "--json and -i exclude each other");
      const daemon = await session.daemon();
      const started = await session.interruptible((signal) =>
        daemon.run(
          {
            name: options.name,
            vm: options.vm,
            source,
            env: [...(options.env ?? [])],
            workdir: options.workdir ?? null,
            memoryLimitBytes: options.memoryLimit ?? null,
            ipv4: options.ip ?? null,
            ipv6: options.ip6 ?? null,
            mac: options.mac ?? null,
            hostname: options.hostname ?? null,
            volumes: [...(options.volume ?? [])],
            restart: options.restart ?? { name: "no" },
            health,
            runtime: options.runtime,
            terminal: options.tty === true ? (windowOf(session.io) ?? DEFAULT_WINDOW) : null,
          },
          signal,
        ),
      );
      const entry = psEntry(started);
      if (session.json) return session.document(entry);
      if (interactive) {
        const keys = parseDetachKeys(DETACH_KEYS);
        return attachTo(session, daemon, entry.id, { from: "start", keys });
      }
      session.print(entry.id);
      session.say(`${entry.name} is running on ${entry.vm} at ${entry.ipv4}`);
    });
};

function healthOf(options: RunOptions): HealthWish {
  const check: HealthWish = {
    kind: "check",
    command: options.healthCmd === undefined ? null : ["/bin/sh", "-c", options.healthCmd],
    intervalMs: options.healthInterval ?? null,
    timeoutMs: options.healthTimeout ?? null,
    retries: options.healthRetries ?? null,
    startPeriodMs: options.healthStartPeriod ?? null,
  };
  if (options.healthcheck) return check;
  const { kind: _check, ...said } = check;
  if (Object.values(said).some((value) => value !== null))
    throw new MwarpError("MWARP_E_USAGE", "--no-healthcheck goes with no other --health-... option");
  return { kind: "none" };
}

function sourceOf(argv: string[], options: RunOptions, cwd: string): RunSource {
  const { bundle, rootfs, image, tag } = options;
  if ([bundle, rootfs, image].filter((source) => source !== undefined).length !== 1)
    throw new MwarpError("MWARP_E_USAGE", "name one of --bundle, --rootfs and --image");
  if (tag !== undefined && image === undefined)
    throw new MwarpError("MWARP_E_USAGE", "--tag names an image of --image");
  if (image !== undefined)
    return { kind: "image", file: path.resolve(cwd, image), tag: tag ?? null, command: argv };
  if (bundle !== undefined) {
    if (argv.length > 0)
      throw new MwarpError("MWARP_E_USAGE", "a bundle brings its own command: config.json, process.args");
    return { kind: "bundle", directory: path.resolve(cwd, bundle) };
  }
  if (argv.length === 0)
    throw new MwarpError("MWARP_E_USAGE", "--rootfs needs the command to run", {
      hint: "For example: mwarp run --vm vm-a --name web --rootfs ./rootfs -- /bin/server",
    });
  return { kind: "rootfs", directory: path.resolve(cwd, rootfs!), argv };
}
