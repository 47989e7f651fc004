import { describe, expect, test } from "vitest";
import { planHugepages } from "../../../src/lab/hugepages.js";

const GIB = 1024 ** 3;
interface Pool {
  total: number;
  free: number;
  reserved: number;
  surplus?: number;
}
const host = (gib: number, pool: Pool | null = { total: 0, free: 0, reserved: 0 }) => ({
  available: gib * GIB,
  pool: pool === null ? null : { surplus: 0, ...pool },
});
const auto = { backing: "auto" } as const;
const on = { backing: "hugetlb" } as const;

describe("huge pages for 4 GiB of VMs", () => {
  test("auto takes them when 4 GiB stay free besides, and adds them to what the pool has", () => {
    expect(planHugepages(auto, 4 * GIB, host(8, { total: 7, free: 7, reserved: 0 }))).toMatchObject({
      use: true,
      pages: 2048,
      before: 7,
    });
    expect(planHugepages(auto, 4 * GIB, host(7.9))).toMatchObject({
      use: false,
      pages: 0,
      reason: expect.stringContaining("8192 MiB would be needed"),
    });
  });

  test("pages that are in use beyond the pool come on top: a pool that grows swallows them first", () => {
    const pool = { total: 7, free: 7, reserved: 0, surplus: 100 };
    expect(planHugepages(auto, 4 * GIB, host(8, pool))).toMatchObject({ pages: 2148, before: 7 });
  });

  test("hugetlb needs no spare memory, and fails clearly when there is not enough", () => {
    expect(planHugepages(on, 4 * GIB, host(4))).toMatchObject({ use: true, pages: 2048 });
    expect(() => planHugepages(on, 4 * GIB, host(3.9))).toThrow(
      expect.objectContaining({ code: "MWARP_E_LAB" }),
    );
  });

  test("a pool with enough free pages serves when memory does not, but not with pages promised to others", () => {
    expect(planHugepages(auto, 4 * GIB, host(1, { total: 3000, free: 2500, reserved: 400 }))).toMatchObject({
      use: true,
      pages: 0,
    });
    expect(planHugepages(auto, 4 * GIB, host(1, { total: 3000, free: 2500, reserved: 500 }))).toMatchObject({
      use: false,
    });
  });

  test("a kernel without 2 MiB pages: auto goes on, hugetlb fails", () => {
    expect(planHugepages(auto, 4 * GIB, host(64, null))).toMatchObject({
      use: false,
      reason: "the host kernel has none",
    });
    expect(() => planHugepages(on, 4 * GIB, host(64, null))).toThrow("the host kernel has none");
  });

  test.each(["4k", "thp"] as const)("%s takes none", (backing) => {
    expect(planHugepages({ backing }, 4 * GIB, host(64))).toMatchObject({ use: false, pages: 0 });
  });
});
