import { describe, expect, test } from "vitest";
import { namespaceName, overrideOf, parseMemory, resolveOptions, vmName } from "../../../src/lab/options.js";

const GIB = 1024 ** 3;

test("sizes of memory are read as people write them", () => {
  const sizes: [string | number, number][] = [
    ["2G", 2 * GIB],
    ["512M", GIB / 2],
    ["1536MiB", 1.5 * GIB],
    ["1.5g", 1.5 * GIB],
    [String(GIB), GIB],
    [GIB, GIB],
  ];
  for (const [text, bytes] of sizes) expect(parseMemory(text), String(text)).toBe(bytes);
  for (const text of ["", "G", "-1G", "2X", "2 G B", "0x10"])
    expect(() => parseMemory(text), text).toThrow("not a size");
});

test("without wishes a lab is two VMs of 2 GiB", () => {
  expect(resolveOptions({})).toEqual({
    name: "mwarp",
    vms: 2,
    memoryBytes: 2 * GIB,
    cpus: 1,
    backing: "auto",
    allocation: "on-demand",
    accelerator: "auto",
    overrides: {},
  });
});

describe("wrong wishes are refused by name", () => {
  test.each([
    [{ vms: 0 }, "number of VMs"],
    [{ vms: 27 }, "number of VMs"],
    [{ vms: 1.5 }, "number of VMs"],
    [{ cpus: 0 }, "processors"],
    [{ memory: "256M" }, "at least 512M"],
    [{ memory: "1025M" }, "multiple of 2M"],
    [{ name: "../x" }, "lab name"],
    [{ overrides: { "vm-c": { preload: false } } }, "options for vm-c: this lab has vm-a, vm-b"],
  ])("%j", (options, message) => {
    expect(() => resolveOptions(options)).toThrow(expect.objectContaining({ code: "MWARP_E_USAGE" }));
    expect(() => resolveOptions(options)).toThrow(message);
  });
});

test("huge pages have an older spelling, and one wish cannot be made twice", () => {
  expect(resolveOptions({ backing: "thp" }).backing).toBe("thp");
  expect(resolveOptions({ hugepages: "auto" }).backing).toBe("auto");
  expect(resolveOptions({ hugepages: "on" }).backing).toBe("hugetlb");
  expect(resolveOptions({ hugepages: "off" }).backing).toBe("4k");
  expect(() => resolveOptions({ hugepages: "on", backing: "hugetlb" })).toThrow("give one of them");
});

test("an override changes only what it names", () => {
  const settings = resolveOptions({ overrides: { "vm-b": { preload: false } } });
  expect(overrideOf(settings, "vm-a")).toEqual({ memoryBacking: "shared", preload: true, extra: [] });
  expect(overrideOf(settings, "vm-b")).toEqual({ memoryBacking: "shared", preload: false, extra: [] });
});

test("VMs count by letters, and labs have namespaces of their own", () => {
  expect([0, 1, 25].map(vmName)).toEqual(["vm-a", "vm-b", "vm-z"]);
  expect([namespaceName({ name: "mwarp" }), namespaceName({ name: "two" })]).toEqual(["mwarp", "mwarp-two"]);
});
