import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isMwarpError } from "../../../src/errors.js";
import { decodeJournal, Journal, readJournal } from "../../../src/migration/journal.js";
import { isTerminal, mayFollow, type State, states } from "../../../src/migration/states.js";
import { journalHead } from "../../support/requests.js";

const head = { ...journalHead, method: "warp" } as const;
let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "mwarp-journal-"));
  file = path.join(directory, "m", "journal");
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("the journal", () => {
  it("gives back the head, the state, the steps begun and the pokes", () => {
    const journal = Journal.create(file, head);
    journal.begin("prepare");
    journal.enter("prepared");
    journal.begin("freeze", [{ nsPid: 1, address: 4096, valueHex: "00000000000000ff" }]);
    journal.close();
    const read = readJournal(file);
    expect(read?.head).toMatchObject(head);
    expect(read?.state).toBe("prepared");
    expect(read?.begun).toEqual(["prepare", "freeze"]);
    expect(read?.pokes).toEqual([{ nsPid: 1, address: 4096, valueHex: "00000000000000ff" }]);
  });

  it("refuses a second migration in the same file", () => {
    Journal.create(file, head).close();
    expect(() => Journal.create(file, head)).toThrow(/EEXIST/);
  });

  it("refuses a transition that the table does not have, and writes nothing of it", () => {
    const journal = Journal.create(file, head);
    expect(() => journal.enter("committed")).toThrow(/cannot go from started to committed/);
    journal.close();
    expect(readJournal(file)?.state).toBe("started");
  });

  it("takes no record after a terminal state", () => {
    const journal = Journal.create(file, head);
    journal.enter("aborting");
    journal.enter("aborted");
    expect(() => journal.begin("prepare")).toThrow(/closed/);
  });

  it("drops a torn last record wherever it was cut, and goes on from the one before", () => {
    const journal = Journal.create(file, head);
    journal.enter("prepared");
    const sound = readFileSync(file).length;
    journal.enter("frozen", "für alle");
    journal.close();
    const whole = readFileSync(file);
    for (let cut = sound; cut < whole.length; cut++) {
      writeFileSync(file, whole.subarray(0, cut));
      const read = readJournal(file);
      expect(read?.state, `cut at ${cut}`).toBe("prepared");
      const again = Journal.reopen(file, read!);
      again.enter("aborting");
      again.close();
      expect(readJournal(file)?.state).toBe("aborting");
    }
  });

  it("is null when not even the head reached the disk", () => {
    Journal.create(file, head).close();
    truncateSync(file, 10);
    expect(readJournal(file)).toBeNull();
  });

  it("asks for recovery when any bit of any record is wrong, of the last one too", () => {
    const journal = Journal.create(file, head);
    for (const state of ["prepared", "frozen", "dumped", "transferred", "held", "committed"] as const)
      journal.enter(state, "für alle");
    journal.close();
    const whole = readFileSync(file);
    for (let bit = 0; bit < 8 * whole.length; bit++) {
      const damaged = Buffer.from(whole);
      damaged[bit >> 3] = damaged[bit >> 3]! ^ (1 << (bit & 7));
      let caught: unknown;
      try {
        decodeJournal(damaged, file);
      } catch (error) {
        caught = error;
      }
      expect(isMwarpError(caught, "MWARP_E_NEEDS_RECOVERY"), `bit ${bit}`).toBe(true);
    }
  });

  it("asks for recovery when what follows the last record is not the beginning of another", () => {
    Journal.create(file, head).close();
    const whole = readFileSync(file);
    for (const tail of [
      "\0\0\0\0",
      "x",
      " ",
      "12 zz",
      "12 0123abcd0",
      "2 00000000 {}",
      "1 00000000 {}",
      "\n",
    ]) {
      const read = (): unknown => decodeJournal(Buffer.concat([whole, Buffer.from(tail)]), file);
      expect(read, JSON.stringify(tail)).toThrow(/is damaged at byte/);
    }
  });

  it("never says both committed and aborting, for any order of attempts", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...states), { maxLength: 30 }), (attempts) => {
        const at = path.join(directory, `j${Math.random()}`, "journal");
        const journal = Journal.create(at, head);
        let state: State = "started";
        for (const next of attempts) {
          if (isTerminal(state)) break;
          if (mayFollow(state, next)) {
            journal.enter(next);
            state = next;
          } else expect(() => journal.enter(next)).toThrow();
        }
        journal.close();
        const text = readFileSync(at, "utf8");
        expect(text.includes('"state":"committed"') && text.includes('"state":"aborting"')).toBe(false);
        expect(readJournal(at)?.state).toBe(state);
      }),
      { numRuns: 40 },
    );
  });

  it("rejects a forged record that breaks the table", () => {
    const journal = Journal.create(file, head);
    journal.enter("aborting");
    journal.close();
    const other = path.join(directory, "o", "journal");
    const second = Journal.create(other, head);
    for (const state of ["prepared", "frozen", "dumped", "transferred", "held", "committed"] as const)
      second.enter(state);
    second.close();
    const lines = readFileSync(other, "utf8").trimEnd().split("\n");
    appendFileSync(file, `${lines.at(-1)}\n`);
    expect(() => readJournal(file)).toThrow(/committed cannot follow aborting/);
  });
});
