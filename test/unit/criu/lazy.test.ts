import { describe, expect, it } from "vitest";
import { lazyBytes } from "../../../src/criu/lazy.js";
import { PAGE, pagemapImage } from "./images.js";

const PARENT = 1;
const LAZY = 2;
const PRESENT = 4;

describe("the bytes that a lazy dump left in the tasks", () => {
  it("are those of all entries without contents, of all tasks", () => {
    const files = new Map([
      [
        "pagemap-1.img",
        pagemapImage(1, [
          { page: 16, pages: 5, flags: LAZY },
          { page: 32, pages: 7, flags: PRESENT },
          { page: 64, pages: 11, flags: LAZY },
        ]),
      ],
      ["pagemap-22.img", pagemapImage(2, [{ page: 16, pages: 100, flags: LAZY }])],
      ["pages-1.img", new Uint8Array(7 * PAGE)],
      ["core-1.img", new Uint8Array(3)],
    ]);
    expect(lazyBytes(files)).toBe(116 * PAGE);
  });

  it("are not those of shared memory, which is dumped in full", () => {
    const files = new Map([
      ["pagemap-shmem-1.img", pagemapImage(1, [{ page: 0, pages: 5, flags: PRESENT }])],
    ]);
    expect(lazyBytes(files)).toBe(0);
  });

  it("cannot be counted in a pagemap that contradicts itself", () => {
    const files = new Map([
      ["pagemap-1.img", pagemapImage(1, [{ page: 16, pages: 5, flags: PARENT | PRESENT }])],
    ]);
    expect(() => lazyBytes(files)).toThrow(/flags/);
  });
});
