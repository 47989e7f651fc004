import { describe, expect, test } from "vitest";
import { tapName, vmAddress, vmMac } from "../../../src/lab/network.js";
import { qemuCommand, type VmSpec } from "../../../src/lab/qemu.js";

const spec: VmSpec = {
  name: "vm-b",
  directory: "/run/mwarp/vms/vm-b",
  namespace: "mwarp",
  address: "10.77.0.11",
  mac: "02:4d:57:00:00:0b",
  memoryBytes: 2 * 1024 ** 3,
  cpus: 2,
  accelerator: "tcg",
  backing: "hugetlb",
  allocation: "on-demand",
  memoryBacking: "shared",
  preload: "/opt/mwarp/libmwarp-vmm.so",
  extra: [],
  kernel: "/cache/vmlinuz",
  initramfs: "/run/mwarp/initramfs",
  disk: "/cache/root.ext4",
};
const line = (change: Partial<VmSpec> = {}): string => qemuCommand({ ...spec, ...change }).join(" ");

describe("the command line of a lab VM", () => {
  test("the library is loaded by QEMU alone: not by nsenter, which would take it out of the environment", () => {
    expect(line()).toMatch(
      /^nsenter --net=\/run\/netns\/mwarp -- env LD_PRELOAD=\/opt\/mwarp\/libmwarp-vmm\.so MWARP_VMM_SOCKET=\/run\/mwarp\/vms\/vm-b\/vmm\.sock qemu-system-x86_64 /,
    );
    expect(line({ preload: null })).toMatch(/^nsenter --net=\/run\/netns\/mwarp -- qemu-system-x86_64 /);
  });

  test("guest RAM is a shared memory file, of huge pages when there are", () => {
    expect(line()).toContain("-machine q35,memory-backend=ram0 ");
    expect(line()).toContain("memory-backend-memfd,hugetlb=on,hugetlbsize=2M,id=ram0,size=2048M,share=on ");
    expect(line({ backing: "4k" })).toContain("memory-backend-memfd,id=ram0,size=2048M,share=on ");
    expect(line({ backing: "thp" })).toContain(
      "memory-backend-file,mem-path=/run/mwarp/vms/vm-b/memory,align=2M,id=ram0,size=2048M,share=on ",
    );
    expect(line({ allocation: "ahead" })).toContain("size=2048M,share=on,prealloc=on ");
    expect(line({ memoryBacking: "private" })).not.toContain("memory-backend");
  });

  test("each accelerator gets the processor that fits", () => {
    expect(line({ cpus: 1 })).toContain("-accel tcg,thread=multi,tb-size=256 -cpu max,-erms,-fsrm -smp 1");
    expect(line()).toContain("-accel tcg,thread=single,tb-size=256 -cpu max,-erms,-fsrm -smp 2");
    expect(line({ accelerator: "kvm" })).toContain("-accel kvm -cpu host");
    expect(line({ accelerator: "kvm" })).not.toContain("tsc=reliable");
  });

  test("the guest image cannot be written to", () => {
    expect(line().match(/read-only=on/g)).toHaveLength(2);
  });

  test("addresses, taps and MACs of all 26 VMs differ and lie below the containers' range", () => {
    const all = Array.from({ length: 26 }, (_, index) => [
      vmAddress(index),
      vmMac(index),
      tapName(`vm-${index}`),
    ]);
    for (const column of [0, 1, 2]) expect(new Set(all.map((row) => row[column])).size).toBe(26);
    expect(Math.max(...all.map(([address]) => Number(address.split(".")[3])))).toBeLessThan(100);
  });
});
