/**
 * The dead-man helper's program. Reads its orders (one line), says "armed", and waits until its stdin ends. Without the
 * daemon's word of dismissal it then ends the stun, and starts a daemon, which recovers the migration. What it says goes to
 * the daemon's log.
 */
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod/mini";
import { toMwarpError } from "../errors.js";
import { byteCount, gpa, hva } from "../units.js";
import { VmEndpointSchema } from "../vm/endpoint.js";
import { isAlive } from "../vm/process.js";
import { type DeadManOrders, DISMISSAL } from "./dead-man.js";
import { isOpen } from "./journals.js";
import { endStun } from "./stun-end.js";

/** What is not done by then is left to the next daemon's recovery, ms. Less than that one waits for us. */
const END_MS = 100_000;

/** A service manager, or somebody's next command, starts a daemon sooner than this, ms. */
const RESTART_AFTER_MS = 2_000;

const VmSchema = z.object({
  endpoint: VmEndpointSchema,
  layout: z.object({
    regions: z.array(
      z.object({
        gpa: z.pipe(z.number(), z.transform(gpa)),
        hva: z.pipe(z.number(), z.transform(hva)),
        bytes: z.pipe(z.number(), z.transform(byteCount)),
      }),
    ),
    bytes: z.pipe(z.number(), z.transform(byteCount)),
    hostPageBytes: z.pipe(z.number(), z.transform(byteCount)),
    transparentHuge: z._default(z.boolean(), false),
  }),
});
const OrdersSchema = z.object({
  journalPath: z.string(),
  vms: z.array(VmEndpointSchema),
  stun: z.nullable(z.object({ source: VmSchema, destination: VmSchema })),
  restart: z.tuple([z.string()], z.string()),
});

const say = (message: string, orders: DeadManOrders): void =>
  void process.stderr.write(
    `${JSON.stringify({ time: new Date().toISOString(), pid: process.pid, journal: orders.journalPath, msg: `dead-man helper: ${message}` })}\n`,
  );

async function act(orders: DeadManOrders): Promise<void> {
  const { journalPath, stun } = orders;
  try {
    if (stun !== null) say(await endStun(journalPath, stun, AbortSignal.timeout(END_MS)), orders);
  } catch (error) {
    say(toMwarpError(error).message, orders);
    process.exitCode = 1;
  }
  await sleep(RESTART_AFTER_MS);
  if (orders.vms.some(isAlive) && isOpen(journalPath)) restart(orders);
}

/** One that finds another daemon serving ends at once. */
function restart(orders: DeadManOrders): void {
  const [program, ...args] = orders.restart;
  say("a daemon is started to recover the migration", orders);
  const child = spawn(program, args, { detached: true, cwd: "/", stdio: ["ignore", 2, 2] });
  child.on("error", (error) => say(`no daemon could be started: ${error.message}`, orders));
  child.unref();
}

async function main(): Promise<void> {
  // The daemon's own end by Ctrl-C or a service manager's signal is told by the pipe, like any other.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => undefined);
  process.stdout.on("error", () => undefined);
  let text = "";
  let orders: DeadManOrders | null = null;
  for await (const data of process.stdin.setEncoding("utf8")) {
    text += data as string;
    const end = text.indexOf("\n");
    if (orders !== null || end < 0) continue;
    orders = OrdersSchema.parse(JSON.parse(text.slice(0, end)));
    text = text.slice(end + 1);
    process.stdout.write("armed\n");
  }
  if (orders !== null && !text.includes(DISMISSAL)) await act(orders);
}

await main();
