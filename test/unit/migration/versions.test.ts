import { describe, expect, it } from "vitest";
import { versionAtLeast } from "../../../src/migration/versions.js";

describe("version comparison", () => {
  it.each([
    ["4.1.1", "4.0", true],
    ["4.0", "4.0", true],
    ["3.17.1", "4.0", false],
    ["1.1.15+ds1", "1.1.10", true],
    ["1.1.9", "1.1.10", false],
    ["10.0", "4.0", true],
    ["garbage", "1.0", false],
    ["", "1.0", false],
  ])("%s at least %s: %s", (version, minimum, expected) => {
    expect(versionAtLeast(version, minimum)).toBe(expected);
  });
});
