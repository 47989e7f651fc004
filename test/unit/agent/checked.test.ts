import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type * as z from "zod/mini";
import { agentMethods } from "../../../src/protocol/agent.js";
import { AgentErrorSchema, AgentEventSchema } from "../../../src/protocol/agent-words.js";
import { checked } from "../../../src/protocol/checked.js";
import { runs } from "../../support/long.js";
import { anyJson, fromSchema, nearSchema } from "./from-schema.js";

const schemas: (readonly [string, z.ZodMiniType])[] = [
  ...Object.entries(agentMethods).flatMap(([name, { params, result }]) => [
    [`${name} params`, params] as const,
    [`${name} result`, result] as const,
  ]),
  ["error", AgentErrorSchema],
  ["event", AgentEventSchema],
];

describe("what comes through the agent channel", () => {
  it("is right or wrong as the schema says, and parsed to the same value", () => {
    const seen = { right: 0, wrong: 0 };
    for (const [name, schema] of schemas) {
      fc.assert(
        fc.property(fc.oneof(fromSchema(schema), nearSchema(schema), anyJson), (value) => {
          const json: unknown = JSON.parse(JSON.stringify(value));
          const result = checked(schema, json);
          const whole = schema.safeParse(json);
          if ("problem" in result) {
            expect(whole.success, name).toBe(false);
            seen.wrong++;
          } else {
            expect(result.data, name).toEqual(whole.data);
            seen.right++;
          }
        }),
        { numRuns: runs(20) },
      );
    }
    expect(seen.right).toBeGreaterThan(100);
    expect(seen.wrong).toBeGreaterThan(100);
  });

  it("is told by the place of the first wrong part", () => {
    const { result } = agentMethods["source.dump"];
    const root = { pid: 1, nsPid: 1, rootGpa: 1, taskAddress: "1" };
    const told = (json: unknown): unknown => checked(result, json);
    expect(
      told({ files: [{ name: "a.img", bytes: 1 }], large: [], roots: [root, { ...root, pid: -1 }] }),
    ).toEqual({
      problem: "roots.1.pid: Invalid input",
    });
    expect(told({ files: [{ name: "../a", bytes: 1 }], large: [], roots: [] })).toEqual({
      problem: "files.0.name: Invalid input",
    });
    expect(told(null)).toEqual({ problem: "Invalid input" });
  });

  it("may be wrong in what no part is wrong in by itself", () => {
    expect(checked(agentMethods["guest.exec"].params, { argv: [] })).toEqual({
      problem: "argv: Invalid input",
    });
  });
});
