import { expect, test } from "vitest";
import { freeHugeBytes } from "../../../src/agent/migration/huge-room.js";

const MIB = 1024 * 1024;

test("free memory counts where it lies in blocks of 2 MiB and more, in every zone", () => {
  const buddyinfo = [
    "Node 0, zone      DMA      0      0      0      0      0      1      1      1      0      1      3 ",
    "Node 0, zone    DMA32  51694    106     26     22      8      5      4      1      2      1     10 ",
    "Node 1, zone   Normal      9      9      9      9      9      9      9      9      9      0      0 ",
    "",
  ].join("\n");
  expect(freeHugeBytes(buddyinfo)).toBe((2 + 12 + 2 + 40) * MIB);
  expect(freeHugeBytes("")).toBe(0);
});
