/** What of a container's settings CRIU and runc leave behind. */
import { expect, it } from "vitest";
import { blocksUsr1 } from "../../../src/agent/containers/shim.js";
import { networkSysctls, setNetworkSysctls } from "../../../src/agent/containers/sysctls.js";
import { judgeSettings } from "../../../src/agent/migration/task-settings.js";
import { translate } from "../../../src/agent/migration/traits.js";
import { startOf } from "../../../src/agent/runtimes/runc-time.js";
import type { ContainerSpec } from "../../../src/protocol/container.js";

const status = (inherited: string, bounding: string): string =>
  `Name:\tx\nCapInh:\t${inherited}\nCapPrm:\t00000000a80425fb\nCapBnd:\t${bounding}\n`;

it("a task that CRIU cannot give its capabilities or personality is named", () => {
  expect(judgeSettings(status("0000000000000100", "00000000a80425fb"), "00000000\n")).toEqual([]);
  expect(judgeSettings(status("0000000000000300", "0000000000000100"), "00040000\n")).toEqual([
    "inheritable capabilities outside its bounding set (200)",
    "personality(2) 0x40000",
  ]);
  expect(judgeSettings("", "")).toEqual([]);
});

it("lines about threads are told by the pid that the other side knows, and none is lost", () => {
  const tasks = [
    { pid: 1, nsPid: 100 },
    { pid: 100, nsPid: 1 },
  ];
  expect(translate("1 100 7 0\n100 3 50000 8\n", "pid", "nsPid", tasks)).toBe("100 100 7 0\n1 3 50000 8\n");
  expect(() => translate("7 7 7 7\n", "pid", "nsPid", tasks)).toThrow("pid 7");
});

const spec = (linux: unknown): ContainerSpec => ({ name: "x", oci: { linux } }) as unknown as ContainerSpec;

it("kernel parameters of the network are those set again, by their paths", () => {
  const sysctl = { "net.ipv4.ip_forward": "1", "kernel.msgmax": "7", "net.ipv4.ping_group_range": "0 9" };
  expect(networkSysctls(spec({ sysctl }))).toEqual([
    "net/ipv4/ip_forward 1",
    "net/ipv4/ping_group_range 0 9",
  ]);
  for (const linux of [undefined, null, {}, { sysctl: null }])
    expect(networkSysctls(spec(linux))).toEqual([]);
});

it("the start of a process is found behind whatever it calls itself", () => {
  const fields = Array.from({ length: 50 }, (_, i) => String(i + 3));
  expect(startOf(`7 (a) b ) ${fields.join(" ")}`)).toBe("22");
});

it.each([
  { "net.core.somaxconn": "1\nkernel/core_pattern |/x" },
  { "net.core.somaxconn 1\nkernel/core_pattern": "|/x" },
])("a kernel parameter that would bring another along is none: %j", async (sysctl) => {
  await expect(setNetworkSysctls(spec({ sysctl }))).rejects.toThrow("no kernel parameter");
});

it("a shim is asked for its log only where that does not end it", () => {
  // Of a shim that waits for SIGCHLD and SIGUSR1, and of one that waits for SIGCHLD alone.
  expect(blocksUsr1("SigQ:\t0/1\nSigBlk:\t0000000000010200\n")).toBe(true);
  expect(blocksUsr1("SigQ:\t0/1\nSigBlk:\t0000000000010000\n")).toBe(false);
  expect(blocksUsr1("")).toBe(false);
});
