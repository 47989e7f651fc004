/** Terminals that CRIU does not take along, as the tasks have them. */
import { readdir, readlink } from "node:fs/promises";
import type { AgentResult, Task } from "../../protocol/agent.js";
import type { ContainerSpec } from "../../protocol/container.js";
import { stdioOf } from "../containers/terminal.js";
import { readIfThere } from "../files.js";
import type { Stdio } from "../job.js";

/** What a task has of terminals. */
export interface TerminalUse {
  readonly nsPid: number;
  readonly session: number;
  /** Process group that the keys of the session's terminal go to; -1 without a terminal. */
  readonly foreground: number;
  /** Descriptors that are /dev/tty, whatever terminal that is. */
  readonly controlling: readonly string[];
  /** Whether it has a terminal by its own name. */
  readonly holdsTerminal: boolean;
}

/**
 * CRIU looks at the first task that has /dev/tty open (criu/tty.c, tty_verify_ctty): the session must be in the foreground itself, and that
 * task the first that has the terminal open by its own name.
 * @param uses in the order in which CRIU dumps: parents before children
 */
export function judgeTerminals(uses: readonly TerminalUse[]): string[] {
  const first = uses.find(({ controlling }) => controlling.length > 0);
  if (first === undefined) return [];
  const what = `pid ${first.nsPid} fd ${first.controlling[0]}: /dev/tty`;
  if (first.foreground !== first.session)
    return [
      `${what} while a job is in the foreground (end it, or use a shell that does not open /dev/tty: bash)`,
    ];
  const holder = uses.find(({ holdsTerminal, session }) => holdsTerminal && session === first.session);
  return holder === first ? [] : [`${what}, which another process of the session has by its name`];
}

/** Whose terminal it is that a task of a session has, or could have. */
export interface TerminalShare {
  readonly nsPid: number;
  /** Whether it leads its session. */
  readonly leads: boolean;
  /** Whether its session is that of the container's first process. */
  readonly first: boolean;
  /** As the kernel numbers it, 0 for none. */
  readonly device: number;
}

/** /dev/pts/0, the first that is made in a container: by runc, where it has a terminal (Documentation/admin-guide/devices.txt). */
const FIRST_PTY = 136 << 8;

/**
 * CRIU gives a session's terminal back to its leader only. The library in it gives the container's own to all of its session
 * (native/criu/terminal.c says how); one that was made inside the container nobody does.
 */
export function judgeShares(
  shares: readonly TerminalShare[],
  stdio: Stdio,
): Pick<AgentResult<"source.inspect">, "needsLibrary" | "unsupported"> {
  const sharing = shares.filter(({ leads, device }) => !leads && device !== 0);
  const isOwn = ({ first, device }: TerminalShare): boolean =>
    stdio === "terminal" && first && device === FIRST_PTY;
  const what = ({ nsPid }: TerminalShare): string => `pid ${nsPid}: the terminal of its session`;
  return {
    needsLibrary: sharing.filter(isOwn).map(what),
    unsupported: sharing
      .filter((share) => !isOwn(share))
      .map((share) => `${what(share)}, which was made inside the container (end it)`),
  };
}

/** What tasks share of their sessions' terminals. */
export async function terminalShares(
  tasks: readonly Task[],
  spec: ContainerSpec,
): Promise<ReturnType<typeof judgeShares>> {
  const init = tasks.find(({ nsPid }) => nsPid === 1);
  const shares = tasks.map(async ({ pid, nsPid }): Promise<TerminalShare> => {
    const { session, device } = await sessionOf(pid);
    return { nsPid, leads: session === pid, first: session === init?.pid, device };
  });
  return judgeShares(await Promise.all(shares), stdioOf(spec));
}

/** @param tasks in any order */
export async function terminalFaults(tasks: readonly Task[]): Promise<string[]> {
  const ordered = [...tasks].sort((a, b) => Number(b.nsPid === 1) - Number(a.nsPid === 1) || a.pid - b.pid);
  const uses = await Promise.all(ordered.map(terminalUse));
  return judgeTerminals(uses.filter((use) => use !== null));
}

/** Zeros for one that has ended. */
async function sessionOf(pid: number): Promise<{ session: number; device: number; foreground: number }> {
  const stat = (await readIfThere(`/proc/${pid}/stat`)) ?? "";
  // proc_pid_stat(5), from the third field on: state, parent, group, session, terminal, foreground.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [session = 0, device = 0, foreground = -1] = fields.slice(3).map(Number);
  return { session, device, foreground };
}

/** Null for a task without a terminal. */
async function terminalUse({ pid, nsPid }: Task): Promise<TerminalUse | null> {
  const { session, device, foreground } = await sessionOf(pid);
  if (device === 0) return null;
  const names = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const links = await Promise.all(
    names.map(async (fd) => ({ fd, target: await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "") })),
  );
  return {
    nsPid,
    session,
    foreground,
    controlling: links.filter(({ target }) => target === "/dev/tty").map(({ fd }) => fd),
    holdsTerminal: links.some(({ target }) => target.startsWith("/dev/pts/") || target === "/dev/console"),
  };
}
