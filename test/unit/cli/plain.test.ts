/** Nothing that comes out of a guest acts on the terminal of the person who reads it. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { commandIo } from "../../../src/cli/command-io.js";
import { checkLines } from "../../../src/cli/doctor/render.js";
import { reportFailure } from "../../../src/cli/failure.js";
import { plain } from "../../../src/cli/output/plain.js";
import { MigrationProgress } from "../../../src/cli/output/progress.js";
import { failureLines } from "../../../src/cli/output/report.js";
import { painter } from "../../../src/cli/output/style.js";
import { Session } from "../../../src/cli/session.js";
import { Story } from "../../../src/demo/story.js";
import { MwarpError } from "../../../src/errors.js";
import { moveWeb } from "../../support/requests.js";
import { report } from "../daemon/fake-report.js";
import { FakeIo } from "./fake-io.js";

/** Clears the screen, sets the title, goes back over the line, rings; in seven bits and in eight. */
const hostile = "\u001b[2J\u001b]0;owned\u0007\r\u0008\u009b2J\u007fend";
const shown = "\\x1b[2J\\x1b]0;owned\\x07\\x0d\\x08\\x9b2J\\x7fend";

/** What mWarp itself may write: colours, and the redrawing of the progress line. */
const own = ["\r\u001b[2K", ...[0, 1, 2, 31, 32, 33, 36].map((style) => `\u001b[${style}m`)];

/** What else acts on a terminal in what a run has written. */
const acts = (text: string): string[] => {
  const rest = own.reduce((left, sequence) => left.replaceAll(sequence, ""), text);
  return (rest.match(/\p{Cc}/gu) ?? []).filter((character) => character !== "\n" && character !== "\t");
};

const anyText = fc
  .array(fc.oneof(fc.nat(0x9f), fc.nat(0xffff)))
  .map((units) => String.fromCharCode(...units));

const terminal = (): FakeIo => {
  const io = new FakeIo();
  io.stdout.isTTY = true;
  io.stderr.isTTY = true;
  return io;
};

describe("plain text", () => {
  it("keeps newlines, tabs and everything that is no control character, and shows the rest", () => {
    expect(plain(`a\tb\n${hostile} é 漢 🚚`)).toBe(`a\tb\n${shown} é 漢 🚚`);
  });

  it("has no control character left, whatever the text, and stays as it is when it is made plain again", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(acts(plain(text))).toEqual([]);
        expect(plain(plain(text))).toBe(plain(text));
      }),
    );
  });
});

describe("what a guest says", () => {
  const error = new MwarpError("MWARP_E_RESTORE", `message ${hostile}`, {
    details: [`detail ${hostile}`],
    hint: `hint ${hostile}`,
  });

  it("is plain in errors, on stderr", () => {
    const io = terminal();
    reportFailure(new Session(io), error);
    expect(acts(io.stderr.text)).toEqual([]);
    for (const part of ["message", "detail", "hint"]) expect(io.stderr.text).toContain(`${part} ${shown}`);
  });

  it("is plain in tables, whose columns it cannot shift, and in what is printed and said", async () => {
    const io = terminal();
    const session = new Session(io);
    await session.table(
      ["NAME", "VM"],
      [
        [hostile, "vm-a"],
        ["web", "vm-b"],
      ],
    );
    const [head, ...rows] = io.stdout.text.trimEnd().split("\n");
    expect(rows.map((row) => row.indexOf("vm-"))).toEqual([head!.indexOf("VM"), head!.indexOf("VM")]);
    session.print(hostile);
    session.say(hostile);
    expect(acts(io.stdout.text + io.stderr.text)).toEqual([]);
  });

  it("is plain in the progress of a migration and in its report", () => {
    const io = terminal();
    const progress = new MigrationProgress(io, { container: `web${hostile}`, to: "vm-b" });
    progress.handle({ event: "phase", id: "m", phase: "dump", elapsed_ms: 0 });
    progress.handle({ event: "note", id: "m", message: `note ${hostile}` });
    const { code, message, hint, details } = error;
    const failed = report("m", moveWeb(), {
      outcome: "aborted",
      error: { code, message, hint, phase: "restore", details: [...details] },
    });
    progress.handle({ event: "done", id: "m", report: failed });
    const session = new Session(io);
    for (const line of failureLines(failed, null)) session.say(line);
    expect(acts(io.stderr.text)).toEqual([]);
    for (const part of ["web", "note ", "message ", "detail "])
      expect(io.stderr.text).toContain(`${part}${shown}`);
  });

  it("is plain between colours, too: in the doctor's findings and in the demo", () => {
    const io = terminal();
    const session = new Session(io);
    const check = { id: "vm.agent", status: "fail", message: hostile, remedy: hostile } as const;
    for (const line of checkLines([check], io)) session.printPainted(line);
    const story = new Story(io);
    story.begin(hostile);
    story.say(hostile);
    story.good(hostile);
    story.bad(hostile);
    expect(io.stdout.text).toContain("\u001b[31mfail\u001b[0m");
    expect(acts(io.stdout.text + io.stderr.text)).toEqual([]);
    expect(painter(io, io.stderr)("red", hostile)).toBe(`\u001b[31m${shown}\u001b[0m`);
  });

  it("is what it is for programs: in --json, and in the streams of exec", async () => {
    const io = terminal();
    const session = new Session(io);
    session.json = true;
    reportFailure(session, error);
    expect(JSON.parse(io.stdout.text)).toMatchObject({ error: { message: `message ${hostile}` } });
    const streams = terminal();
    const exec = commandIo(streams, null, new AbortController().signal);
    await exec.write(1, Buffer.from(hostile));
    await exec.write(2, Buffer.from(hostile));
    expect([streams.stdout.text, streams.stderr.text]).toEqual([hostile, hostile]);
  });
});
