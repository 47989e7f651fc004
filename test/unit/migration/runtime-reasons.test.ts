/** What speaks against a move because of the container's OCI runtime. */
import { describe, expect, it } from "vitest";
import { guestReasons, runtimeReasons } from "../../../src/migration/reasons.js";
import type { GuestInfo } from "../../../src/protocol/guest-info.js";
import { moveWeb } from "../../support/requests.js";
import { info } from "../agent/fake-agent.js";

const guest: GuestInfo = {
  ...info,
  criuVersion: "4.1.1",
  runcVersion: null,
  crun: { version: "1.21", criu: true },
};

describe("a container of crun's", () => {
  it("needs crun in the guest, and no runc", () => {
    expect(guestReasons("vm-b", guest, "restore", "crun")).toEqual([]);
    expect(guestReasons("vm-b", guest, "restore", "runc")).toMatchObject([{ code: "MWARP_E_RUNC_TOO_OLD" }]);
  });

  it.each<readonly [GuestInfo["crun"], string]>([
    [null, "crun in vm-b is missing"],
    [{ version: "1.8.1", criu: true }, "crun in vm-b is 1.8.1"],
    [{ version: "1.21", criu: false }, "crun in vm-b cannot use CRIU"],
  ])("is refused by name where crun is %j", (crun, message) => {
    const reasons = guestReasons("vm-b", { ...guest, crun }, "restore", "crun");
    expect(reasons).toMatchObject([
      { code: "MWARP_E_CRUN_TOO_OLD", message: expect.stringContaining(message) },
    ]);
  });

  it("moves by warp only", () => {
    const request = moveWeb();
    expect(runtimeReasons({ ...request, method: "warp" }, "crun")).toEqual([]);
    for (const method of ["cold", "precopy", "postcopy"] as const) {
      expect(runtimeReasons({ ...request, method }, "runc")).toEqual([]);
      expect(runtimeReasons({ ...request, method }, "crun")).toMatchObject([
        { code: "MWARP_E_UNSUPPORTED", message: expect.stringContaining(`--method ${method}`) },
      ]);
    }
  });
});
