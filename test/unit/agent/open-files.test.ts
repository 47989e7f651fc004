/** Open files that cannot be dumped. */
import { describe, expect, it } from "vitest";
import { hiddenBy, judgeOpenFile, parseMounts } from "../../../src/agent/migration/open-files.js";

const mounts = parseMounts(`40 30 0:50 / / rw,relatime - overlay overlay rw
41 40 0:51 / /dev rw - tmpfs tmpfs rw
42 40 0:52 / /data rw - tmpfs first rw
43 42 0:53 / /data rw - tmpfs second rw
44 40 0:54 / /with\\040blank rw - tmpfs third rw
`);

describe("a file is hidden", () => {
  it.each([
    ["/data/a", 40, "/data"],
    ["/data", 40, "/data"],
    ["/data/a", 42, "/data"],
    ["/with blank/a", 40, "/with blank"],
  ])("%s of mount %i, by the mount over it", (path, id, point) =>
    expect(hiddenBy(path, id, mounts)).toBe(point),
  );

  it.each([
    ["/data/a", 43],
    ["/database", 40],
    ["/etc/passwd", 40],
    ["/data/a", 99],
    ["/dev/shm/x", 41],
  ])("by nothing when its name leads to it: %s of mount %i", (path, id) =>
    expect(hiddenBy(path, id, mounts)).toBeNull(),
  );
});

it("a descriptor that was closed meanwhile, or is no file, is nothing to refuse", () => {
  expect(judgeOpenFile("/proc/self", "987654", "/data/a", mounts)).toBeNull();
  expect(judgeOpenFile("/proc/self", "987654", "/data/a (deleted)", mounts)).toBeNull();
  expect(judgeOpenFile("/proc/self", "0", "pipe:[7]", mounts)).toBeNull();
});
