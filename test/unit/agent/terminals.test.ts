import { describe, expect, it } from "vitest";
import { judgeTerminals, type TerminalUse } from "../../../src/agent/migration/terminals.js";

const shell: TerminalUse = {
  nsPid: 1,
  session: 70,
  foreground: 70,
  controlling: ["10"],
  holdsTerminal: true,
};
const job: TerminalUse = { nsPid: 9, session: 70, foreground: 70, controlling: [], holdsTerminal: true };

describe("terminals that CRIU would not take along", () => {
  it("are none of a shell at its prompt, nor where nobody has /dev/tty open", () => {
    expect(judgeTerminals([shell, job])).toEqual([]);
    expect(judgeTerminals([{ ...shell, foreground: 75, controlling: [] }, job])).toEqual([]);
    expect(judgeTerminals([])).toEqual([]);
  });

  it("are /dev/tty while a job is in the foreground, with what to do", () => {
    const uses = [shell, job].map((use) => ({ ...use, foreground: 75 }));
    expect(judgeTerminals(uses)).toEqual([
      expect.stringMatching(/^pid 1 fd 10: \/dev\/tty while a job .*bash/),
    ]);
  });

  it("are /dev/tty of one that was not the first to have the terminal", () => {
    const uses = [
      { ...shell, controlling: [] },
      { ...job, controlling: ["3"] },
    ];
    expect(judgeTerminals(uses)).toEqual([expect.stringMatching(/^pid 9 fd 3: \/dev\/tty, which another/)]);
  });
});
