/** The end of a migration after the commit: who is asked for what, and what is made of a VM that dies meanwhile. */
import { beforeEach, describe, expect, it } from "vitest";
import { MwarpError } from "../../../src/errors.js";
import { retireBoth } from "../../../src/migration/methods/retire.js";
import type { MigrationVm } from "../../../src/migration/ports.js";
import type { AgentResult } from "../../../src/protocol/agent.js";

type End = AgentResult<"destination.finish">;
const runs: End = { outcome: "runs", pid: 1 };
const lost: End = { outcome: "lost", reason: "no page came" };

let asked: string[];
let gone: boolean;
beforeEach(() => {
  asked = [];
  gone = false;
});

function vmOf(answer: (method: string, source?: string) => Promise<unknown>): MigrationVm {
  const call = async (method: string, params: { source?: string }): Promise<unknown> => {
    asked.push([method, params.source].filter((word) => word !== undefined).join(" "));
    return answer(method, params.source);
  };
  return { isGone: () => false, agent: async () => ({ call }) } as unknown as MigrationVm;
}
const source = (): MigrationVm => ({ ...vmOf(async () => ({ bootId: "second" })), isGone: () => gone });
const retire = (method: "cold" | "postcopy", destination: MigrationVm, from: MigrationVm | null = source()) =>
  retireBoth({ id: "m-000001", method, sourceBoot: "first", source: from, destination });

describe("the end of a post-copy", () => {
  it("keeps the source until the destination has its last page", async () => {
    await retire(
      "postcopy",
      vmOf(async () => runs),
    );
    expect(asked).toEqual(["destination.finish there", "source.retire"]);
  });

  it("asks the destination to give up when the VM that serves the pages ends", async () => {
    let overtaken: (error: Error) => void = () => undefined;
    const destination = vmOf((_, from) => {
      if (from === "gone") {
        overtaken(new MwarpError("MWARP_E_CANCELLED", "overtaken"));
        return Promise.resolve(lost);
      }
      gone = true;
      return new Promise((_resolve, reject) => {
        overtaken = reject;
      });
    });
    await expect(retire("postcopy", destination)).rejects.toMatchObject({ code: "MWARP_E_CONTAINER_LOST" });
    expect(asked).toEqual(["destination.finish there", "destination.finish gone"]);
  });

  it("asks it to give up when the guest that served them has booted anew", { timeout: 20_000 }, async () => {
    let overtaken: (error: Error) => void = () => undefined;
    const destination = vmOf((_, from) => {
      if (from === "there")
        return new Promise((_resolve, reject) => {
          overtaken = reject;
        });
      overtaken(new MwarpError("MWARP_E_CANCELLED", "overtaken"));
      return Promise.resolve(lost);
    });
    await expect(retire("postcopy", destination)).rejects.toMatchObject({ code: "MWARP_E_CONTAINER_LOST" });
    expect(asked).toEqual(["destination.finish there", "info", "destination.finish gone", "source.retire"]);
  });

  it("clears the source of a container that is lost, and says that it is", async () => {
    await expect(
      retire(
        "postcopy",
        vmOf(async () => lost),
      ),
    ).rejects.toMatchObject({
      code: "MWARP_E_CONTAINER_LOST",
      message: expect.stringContaining("no page came"),
    });
    expect(asked).toEqual(["destination.finish there", "source.retire"]);
  });

  it("leaves the source alone when it is not known how the destination fares", async () => {
    const mute = vmOf(() => Promise.reject(new MwarpError("MWARP_E_AGENT_UNREACHABLE", "no answer")));
    await expect(retire("postcopy", mute)).rejects.toMatchObject({ code: "MWARP_E_AGENT_UNREACHABLE" });
    expect(asked).toEqual(["destination.finish there"]);
  });
});

it("clears the source of a container whose destination has forgotten that it had all long ago", async () => {
  const forgetful = vmOf(() =>
    Promise.reject(new MwarpError("MWARP_E_MIGRATION_UNKNOWN", "no such migration")),
  );
  await retire("postcopy", forgetful);
  expect(asked).toEqual(["destination.finish there", "source.retire"]);
});

describe("the end of the other methods", () => {
  it("lets neither side wait for the other", async () => {
    const mute = vmOf(() => Promise.reject(new MwarpError("MWARP_E_AGENT_UNREACHABLE", "no answer")));
    await expect(retire("cold", mute)).rejects.toMatchObject({ code: "MWARP_E_AGENT_UNREACHABLE" });
    expect(asked.sort()).toEqual(["destination.finish there", "source.retire"]);
  });

  it("asks nothing of a VM that has ended", async () => {
    await retire(
      "cold",
      vmOf(async () => runs),
      null,
    );
    expect(asked).toEqual(["destination.finish gone"]);
  });
});
