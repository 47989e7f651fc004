/**
 * mwarp.ko in the kernels it is meant for: built with their headers, loaded, and put to its tests (`test/kmod/`) in a VM of its
 * own, with a KVM guest inside. `make soak` gives the races minutes instead of seconds.
 */
import { beforeAll, describe, expect, it } from "vitest";
import { buildModule, type KernelModule, resultsIn } from "../support/kernel-vm.js";
import { long } from "../support/long.js";

/** Of one VM, with all that is run in it. */
const BOOT_MS = long ? 7_200_000 : 300_000;
/** With the download of a kernel and its headers, the first time. */
const BUILD_MS = 240_000;

const groups = ["basic", "refusals", "held", "huge", "table", "kvm", "races", "load"] as const;
const kernels = [
  { metaPackage: "linux-image-6.12-cloud-amd64", version: /^6\.12\./, seconds: 2 },
  { metaPackage: "linux-image-cloud-amd64", version: /^6\.1\./, seconds: 2 },
] as const;

describe.each(kernels)("mwarp.ko in the kernel of $metaPackage", ({ metaPackage, version, seconds }) => {
  let module: KernelModule;
  let console = "";
  beforeAll(async () => {
    module = await buildModule(metaPackage);
    const words = long ? "--seconds 240 --loads 1000" : `--seconds ${seconds} --loads 8`;
    console = await module.test(words, BOOT_MS);
  }, BOOT_MS + BUILD_MS);

  it("is built for it without a warning", () => {
    expect(module.release).toMatch(version);
    expect(module.said).not.toMatch(/warning/i);
  });

  it.each(groups)("passes its tests of the group %s, and the kernel says nothing", (group) => {
    const of = (kind: "ok" | "not ok" | "skipped"): string[] =>
      resultsIn(console, kind).filter((line) => line.startsWith(`${group}: `));
    expect(of("not ok"), console).toEqual([]);
    expect(of("skipped"), console).toEqual([]);
    expect(of("ok")).not.toEqual([]);
  });

  it("ends with all of them passed", () => {
    expect(console).toMatch(/^all tests passed\r?$/m);
  });
});
