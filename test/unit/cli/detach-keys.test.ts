import { describe, expect, it } from "vitest";
import { DetachKeys, parseDetachKeys } from "../../../src/cli/detach-keys.js";

describe("the keys that detach", () => {
  it("are written as other engines write them", () => {
    expect(parseDetachKeys("ctrl-p,ctrl-q")).toEqual(Buffer.from([16, 17]));
    expect(parseDetachKeys("ctrl-@,x,ctrl-[")).toEqual(Buffer.from([0, 120, 27]));
    expect(parseDetachKeys("")).toHaveLength(0);
    expect(() => parseDetachKeys("ctrl-p,control-q")).toThrow(/"control-q" is no key/);
  });

  const typed = (...texts: string[]) => {
    const keys = new DetachKeys(parseDetachKeys("ctrl-p,ctrl-q"));
    const passed: string[] = [];
    for (const text of texts) {
      const { passOn, detached } = keys.push(Buffer.from(text));
      passed.push(passOn.toString());
      if (detached) return { passed: passed.join(""), detached };
    }
    return { passed: passed.join(""), detached: false };
  };

  it("are found wherever what is typed is cut, and are not passed on", () => {
    expect(typed("ls\r\x10\x11more")).toEqual({ passed: "ls\r", detached: true });
    expect(typed("a\x10", "\x11")).toEqual({ passed: "a", detached: true });
    expect(typed("\x10\x10\x11")).toEqual({ passed: "\x10", detached: true });
  });

  it("are keys like others when the rest does not follow", () => {
    expect(typed("\x10", "x\x11")).toEqual({ passed: "\x10x\x11", detached: false });
  });
});
