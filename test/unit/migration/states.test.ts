import { describe, expect, it } from "vitest";
import {
  forwardSteps,
  isTerminal,
  mayFollow,
  methodSteps,
  owner,
  type State,
  type StepName,
  states,
  steps,
  successors,
  undoPlan,
} from "../../../src/migration/states.js";

/** Every pair that is allowed, written out by hand: a change of the table must be meant. */
const allowed = new Set([
  "started>prepared",
  "started>aborting",
  "prepared>frozen",
  "prepared>aborting",
  "frozen>dumped",
  "frozen>aborting",
  "dumped>transferred",
  "dumped>aborting",
  "transferred>held",
  "transferred>aborting",
  "held>populated",
  "held>committed",
  "held>aborting",
  "populated>committed",
  "populated>aborting",
  "committed>resumed",
  "resumed>retired",
  "aborting>aborted",
  "committed>lost",
  "resumed>lost",
  "aborting>lost",
]);

describe("the transition table", () => {
  for (const from of states) {
    for (const to of states) {
      const expected = allowed.has(`${from}>${to}`);
      it(`${expected ? "allows" : "forbids"} ${from} -> ${to}`, () => {
        expect(mayFollow(from, to)).toBe(expected);
      });
    }
  }

  it("never leads from a state the destination owns to one the source owns", () => {
    for (const from of states) {
      for (const to of successors[from]) {
        if (owner(from) === "destination" && to !== "lost") expect(owner(to)).toBe("destination");
      }
    }
  });

  it("lets every state before the commit be rolled back, and none after it", () => {
    for (const state of states) {
      if (isTerminal(state) || state === "aborting") continue;
      expect(mayFollow(state, "aborting")).toBe(owner(state) === "source");
    }
  });

  it("reaches every state from the first", () => {
    const seen = new Set<State>(["started"]);
    for (const state of seen) for (const next of successors[state]) seen.add(next);
    expect([...seen].sort()).toEqual([...states].sort());
  });
});

describe("the steps of a method", () => {
  for (const [method, names] of Object.entries(methodSteps)) {
    it(`${method}: each begins where the one before ended, the last commits`, () => {
      let state: State = "started";
      for (const name of names) {
        expect(steps[name].from).toBe(state);
        expect(mayFollow(state, steps[name].to)).toBe(true);
        state = steps[name].to;
      }
      expect(state).toBe("committed");
      expect(forwardSteps.resume.from).toBe("committed");
      expect(forwardSteps.retire.from).toBe(forwardSteps.resume.to);
    });

    it(`${method}: whatever prefix was begun, the destination is cleared before the source is thawed`, () => {
      for (let count = 1; count <= names.length; count++) {
        expect(undoPlan(names.slice(0, count) as StepName[])).toEqual(["abortDestination", "abortSource"]);
      }
    });
  }
});
