import { describe, expect, it } from "vitest";
import {
  judgeShares,
  judgeTerminals,
  type TerminalShare,
  type TerminalUse,
} from "../../../src/agent/migration/terminals.js";

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

describe("the terminal of a session", () => {
  const leader: TerminalShare = { nsPid: 1, leads: true, first: true, device: 0x8800 };
  const task: TerminalShare = { nsPid: 7, leads: false, first: true, device: 0x8800 };
  const what = "pid 7: the terminal of its session";

  it("is given back to its leader by CRIU, and to the others of the container's own by the library in it", () => {
    expect(judgeShares([leader, { ...task, device: 0 }], "terminal")).toEqual({
      needsLibrary: [],
      unsupported: [],
    });
    expect(judgeShares([leader, task], "terminal")).toEqual({ needsLibrary: [what], unsupported: [] });
  });

  it("is refused where others than its leader have one that was made inside the container", () => {
    const refused = { needsLibrary: [], unsupported: [expect.stringContaining(`${what}, which was made`)] };
    for (const [stdio, share] of [
      ["pipes", task],
      ["terminal", { ...task, first: false }],
      ["terminal", { ...task, device: 0x8801 }],
    ] as const)
      expect(judgeShares([leader, { ...leader, nsPid: 5, first: false }, share], stdio)).toEqual(refused);
  });
});
