import { expect, it } from "vitest";
import { chooseTools } from "../../../src/migration/methods/common.js";
import { migrationMethods } from "../../../src/protocol/migration.js";

it("a warp alone has quick tools, and only where both sides have them", () => {
  const sides = [true, false].flatMap((source) => [true, false].map((destination) => [source, destination]));
  const quick = migrationMethods.flatMap((method) =>
    sides
      .filter(
        ([source, destination]) =>
          chooseTools(method, { quickTools: source }, { quickTools: destination }) === "quick",
      )
      .map((side) => [method, ...side]),
  );
  expect(quick).toEqual([["warp", true, true]]);
});
