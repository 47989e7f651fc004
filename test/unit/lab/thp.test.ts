import { expect, test } from "vitest";
import { hugeShmemBytes, insideTmpfs, whyNoThp } from "../../../src/lab/thp.js";

test("a host gives transparent huge pages unless it has none or denies them to every file", () => {
  // The file system says for itself what the other settings say for memfds.
  for (const chosen of ["always", "within_size", "advise", "never", "force"])
    expect(
      whyNoThp(`always within_size advise never deny force\n`.replace(chosen, `[${chosen}]`)),
    ).toBeNull();
  expect(whyNoThp("always within_size advise never [deny] force\n")).toContain("denies");
  expect(whyNoThp(null)).toContain("has none");
});

test("the file system is mounted where only the VM sees it", () => {
  expect(insideTmpfs("/run/mwarp/vms/vm-a/memory", 512 * 1024 ** 2)).toEqual([
    ...["unshare", "--mount", "--propagation", "slave", "sh", "-c"],
    expect.stringContaining(
      'mount -t tmpfs -o huge=always,mode=0700,size=536870912 mwarp-memory "$0" && exec "$@"',
    ),
    "/run/mwarp/vms/vm-a/memory",
  ]);
});

test("what is mapped as huge pages is added up over all mappings of files, not of private memory", () => {
  const smaps = [
    "7f0000000000-7f0040000000 rw-s 00000000 00:29 2    /qemu_back_mem.ram0.X (deleted)",
    "AnonHugePages:         0 kB",
    "ShmemPmdMapped:     4096 kB",
    "7f1000000000-7f1040000000 rw-p 00000000 00:00 0",
    "AnonHugePages:      8192 kB",
    "ShmemPmdMapped:        0 kB",
    "7f2000000000-7f2040000000 rw-s 00000000 00:2a 2    /qemu_back_mem.ram0.Y (deleted)",
    "ShmemPmdMapped:     2048 kB",
    "",
  ];
  expect(hugeShmemBytes(smaps.join("\n"))).toBe(6 * 1024 ** 2);
  expect(hugeShmemBytes("")).toBe(0);
});
