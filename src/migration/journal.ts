/**
 * The journal of one migration: the word on who owns the container, on disk before anyone acts on it.
 *
 * INVARIANTS
 * - Append only. A record is on disk (fdatasync) when `append` returns.
 * - A line is `length crc32 json`. One that lacks its end, and nothing else, was torn off by a crash and is not a record;
 *   anything else that does not check is an error, the last line too: what it said may have been acted on.
 * - Records follow the transition table of states.ts; `committed` and `aborting` exclude each other for ever.
 * - The file's directory is fsynced at creation, so that a record cannot vanish with its file.
 */
import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { z } from "zod";
import { MwarpError } from "../errors.js";
import { type Poke, PokeSchema } from "../protocol/agent.js";
import { MigrationMethodSchema } from "../protocol/migration.js";
import { killPoint } from "./faults.js";
import { isTerminal, mayFollow, type State, states } from "./states.js";

const VmmIdentitySchema = z.object({ pid: z.int(), startTime: z.string() });
export type VmmIdentity = z.infer<typeof VmmIdentitySchema>;

export const JournalHeadSchema = z.object({
  kind: z.literal("head"),
  version: z.literal(1),
  id: z.string(),
  container: z.string(),
  from: z.string(),
  to: z.string(),
  method: MigrationMethodSchema,
  /** Identity of both VMM processes: a VM of the same name that was started later holds nothing of this migration. */
  vms: z.object({ from: VmmIdentitySchema, to: VmmIdentitySchema }),
  /** Boots of both guests (random/boot_id): one that has booted since holds nothing of it either. */
  boots: z.object({ from: z.string(), to: z.string() }).optional(),
  /** ISO 8601. */
  at: z.string(),
});
export type JournalHead = z.infer<typeof JournalHeadSchema>;

export const JournalRecordSchema = z.discriminatedUnion("kind", [
  JournalHeadSchema,
  /** A step was begun: its effects may exist from here on. */
  z.object({
    kind: z.literal("begin"),
    step: z.string(),
    at: z.string(),
    /** What a later process needs to finish the step: words to write into the restored tasks before they run. */
    pokes: z.array(PokeSchema).optional(),
  }),
  /** Frames are about to change owner; the file `exchange` beside the journal says which. */
  z.object({ kind: z.literal("exchange"), at: z.string() }),
  /** The migration is in this state. */
  z.object({
    kind: z.literal("state"),
    state: z.enum(states),
    at: z.string(),
    reason: z.string().optional(),
  }),
]);
export type JournalRecord = z.infer<typeof JournalRecordSchema>;

export interface JournalContents {
  readonly head: JournalHead;
  readonly state: State;
  /** Names of the steps begun, in order. */
  readonly begun: readonly string[];
  readonly pokes: readonly Poke[];
  /** An exchange of frames was begun. Without `committed` it may have been done, half done or undone. */
  readonly exchanging: boolean;
  readonly soundBytes: number;
}

/** The exchange record (warp/backends/exchange-record.ts) that belongs to a journal. */
export const exchangeFile = (journalPath: string): string => `${journalPath}.exchange`;

/** A file system that keeps it against our will does no harm: while its journal is open no VM of it exchanges anything. */
export function dropExchangeRecord(journalPath: string): void {
  try {
    rmSync(exchangeFile(journalPath), { force: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EROFS") throw error;
  }
}

const encodeRecord = (record: JournalRecord): string => {
  const json = JSON.stringify(record);
  const crc = crc32(json).toString(16).padStart(8, "0");
  return `${Buffer.byteLength(json)} ${crc} ${json}\n`;
};

/** Whether bytes without a newline are the beginning of a record: an append is one write, and a write is cut at its end. */
function isTorn(tail: Buffer): boolean {
  const text = tail.toString("latin1");
  const match = /^(\d+)(?: (?:[0-9a-f]{0,8}|([0-9a-f]{8}) (.*)))?$/s.exec(text);
  if (match === null) return false;
  const [, length, crc, json] = match;
  if (crc === undefined || json === undefined || json.length < Number(length)) return true;
  // All but the newline is there.
  const bytes = tail.subarray(tail.length - json.length);
  return json.length === Number(length) && Number.parseInt(crc, 16) === crc32(bytes);
}

/**
 * Decodes a journal file's bytes. The torn tail of an interrupted append is no record (its writer never heard that it was
 * on disk); other damage is MWARP_E_NEEDS_RECOVERY. `soundBytes` is where the next record belongs.
 */
export function decodeJournal(
  bytes: Uint8Array,
  path: string,
): { records: JournalRecord[]; soundBytes: number } {
  const data = Buffer.from(bytes);
  const records: JournalRecord[] = [];
  let offset = 0;
  while (offset < data.length) {
    const end = data.indexOf(0x0a, offset);
    if (end < 0 && isTorn(data.subarray(offset))) break;
    if (end < 0) throw damaged(path, offset);
    const line = data.toString("utf8", offset, end);
    const match = /^(\d+) ([0-9a-f]{8}) (.*)$/.exec(line);
    const json = match?.[3] ?? "";
    const sound =
      match !== null &&
      Number(match[1]) === Buffer.byteLength(json) &&
      Number.parseInt(match[2]!, 16) === crc32(json);
    if (!sound) throw damaged(path, offset);
    const record = JournalRecordSchema.safeParse(JSON.parse(json));
    if (!record.success)
      throw new MwarpError("MWARP_E_NEEDS_RECOVERY", `journal ${path} is of another version of mWarp`);
    records.push(record.data);
    offset = end + 1;
  }
  return { records, soundBytes: offset };
}

const damaged = (path: string, offset: number): MwarpError =>
  new MwarpError("MWARP_E_NEEDS_RECOVERY", `journal ${path} is damaged at byte ${offset}`, {
    hint: "Keep the file. Find out on which VM the container is frozen or runs, and thaw only one side by hand.",
  });

/** Replays records through the transition table. */
export function replay(
  records: readonly JournalRecord[],
  path: string,
): Omit<JournalContents, "soundBytes"> | null {
  const [head, ...rest] = records;
  if (head === undefined) return null;
  if (head.kind !== "head") throw new MwarpError("MWARP_E_NEEDS_RECOVERY", `journal ${path} has no head`);
  let state: State = "started";
  const begun: string[] = [];
  let pokes: readonly Poke[] = [];
  let exchanging = false;
  for (const record of rest) {
    if (record.kind === "begin") {
      begun.push(record.step);
      pokes = record.pokes ?? pokes;
    } else if (record.kind === "exchange") {
      exchanging = true;
    } else if (record.kind === "state") {
      if (!mayFollow(state, record.state)) {
        throw new MwarpError(
          "MWARP_E_NEEDS_RECOVERY",
          `journal ${path}: ${record.state} cannot follow ${state}`,
        );
      }
      state = record.state;
    } else throw new MwarpError("MWARP_E_NEEDS_RECOVERY", `journal ${path} has two heads`);
  }
  return { head, state, begun, pokes, exchanging };
}

/** Reads a journal; null when not even its head had reached the disk (nothing had been done then). */
export function readJournal(path: string): JournalContents | null {
  const { records, soundBytes } = decodeJournal(readFileSync(path), path);
  const contents = replay(records, path);
  return contents === null ? null : { ...contents, soundBytes };
}

function fsyncDirectory(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

export class Journal {
  readonly path: string;
  #fd: number | null;
  #state: State;
  /** Length of the file up to the end of its last record. */
  #soundBytes: number;

  private constructor(path: string, fd: number, state: State, soundBytes: number) {
    this.path = path;
    this.#fd = fd;
    this.#state = state;
    this.#soundBytes = soundBytes;
  }

  get state(): State {
    return this.#state;
  }

  /** Starts the journal of a new migration; fails when the file exists. */
  static create(path: string, head: Omit<JournalHead, "kind" | "version" | "at">): Journal {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const journal = new Journal(path, openSync(path, "ax", 0o600), "started", 0);
    journal.#append({ kind: "head", version: 1, ...head, at: new Date().toISOString() });
    fsyncDirectory(dirname(path));
    fsyncDirectory(dirname(dirname(path)));
    killPoint("started");
    return journal;
  }

  /** Opens the journal of a migration that another process began, to finish it. */
  static reopen(path: string, contents: JournalContents): Journal {
    if (statSync(path).size > contents.soundBytes) truncateSync(path, contents.soundBytes);
    return new Journal(path, openSync(path, "a", 0o600), contents.state, contents.soundBytes);
  }

  begin(step: string, pokes?: Poke[]): void {
    this.#append({
      kind: "begin",
      step,
      at: new Date().toISOString(),
      ...(pokes === undefined ? {} : { pokes }),
    });
  }

  /** Journals that frames are about to change owner; `record` is on disk first. */
  beginExchange(record: Uint8Array): void {
    const fd = openSync(exchangeFile(this.path), "w", 0o600);
    try {
      if (writeSync(fd, record) !== record.length) throw new Error("short write, disk full?");
      fdatasyncSync(fd);
    } finally {
      closeSync(fd);
    }
    this.#append({ kind: "exchange", at: new Date().toISOString() });
  }

  /**
   * Every frame has been put back: a later recovery must not do it again, over what was exchanged since. Without the file there is
   * nothing to take back.
   */
  forgetExchange(): void {
    dropExchangeRecord(this.path);
  }

  /**
   * The exchange of image files is final, while both VMs still stand still: put back later, it would be over what the guests have
   * in those frames by then. @throws whatever keeps its record from going; it must be undone then
   */
  settleExchange(): void {
    rmSync(exchangeFile(this.path), { force: true });
  }

  /** Moves to a state. The record is on disk when this returns; from then on the state holds whoever dies. */
  enter(state: State, reason?: string): void {
    if (!mayFollow(this.#state, state)) {
      throw new MwarpError("MWARP_E_INTERNAL", `migration cannot go from ${this.#state} to ${state}`);
    }
    this.#append({
      kind: "state",
      state,
      at: new Date().toISOString(),
      ...(reason === undefined ? {} : { reason }),
    });
    this.#state = state;
    // Inside the stun `committed` is written before the VMs go on: the point `stunned` is that instant.
    if (state !== "committed") killPoint(state);
    if (isTerminal(state)) this.close();
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }

  #append(record: JournalRecord): void {
    if (this.#fd === null) throw new MwarpError("MWARP_E_INTERNAL", "journal is closed");
    const line = Buffer.from(encodeRecord(record));
    try {
      // One write per record: a torn record can only be the last. A short write (disk full) must not pass for a record.
      if (writeSync(this.#fd, line) !== line.length) throw new Error("short write, disk full?");
      fdatasyncSync(this.#fd);
      this.#soundBytes += line.length;
    } catch (cause) {
      this.#takeBack(this.#fd, cause);
      throw new MwarpError("MWARP_E_INTERNAL", `journal ${this.path} cannot be written: ${String(cause)}`, {
        cause,
      });
    }
  }

  /** What its writer believes was not written must not be found by recovery: the file ends with its last sound record. */
  #takeBack(fd: number, cause: unknown): void {
    try {
      ftruncateSync(fd, this.#soundBytes);
      fdatasyncSync(fd);
    } catch {
      throw new MwarpError(
        "MWARP_E_NEEDS_RECOVERY",
        `journal ${this.path} could be neither written nor put back: ${String(cause)}`,
        { cause },
      );
    }
  }
}
