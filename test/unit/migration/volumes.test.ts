/** What speaks against a move in the container's volumes, asked of agents that answer from a table. */
import { describe, expect, it } from "vitest";
import { MwarpError } from "../../../src/errors.js";
import type { AgentCaller } from "../../../src/migration/ports.js";
import { type VolumeSide, volumeReasons } from "../../../src/migration/volumes.js";
import type { AgentMethod, AgentParams } from "../../../src/protocol/agent.js";
import type { Volume, VolumeState } from "../../../src/protocol/container.js";

type Directory = "missing" | "read-only" | Set<string>;

/** Guests with one directory each, which may be the same one. */
function side(
  vm: string,
  directory: Directory,
  volumes: VolumeState[] = [],
): VolumeSide & { asked: string[] } {
  const asked: string[] = [];
  const token = ({ token, act }: AgentParams<"directory.token">): { state: string } => {
    asked.push(act);
    if (directory === "missing") return { state: "missing" };
    if (directory === "read-only") return { state: act === "make" ? "read-only" : "without" };
    if (act === "make") directory.add(token);
    if (act === "remove") directory.delete(token);
    return { state: directory.has(token) ? "with" : "without" };
  };
  const agent = {
    call: async (method: AgentMethod, params: unknown) => {
      if (method === "volume.list") return { volumes };
      if (method === "directory.token") return token(params as AgentParams<"directory.token">);
      throw new MwarpError("MWARP_E_INTERNAL", `asked for ${method}`);
    },
  } as unknown as AgentCaller;
  return { vm, agent, asked };
}

const named: Volume = { kind: "named", name: "store", destination: "/data", readOnly: false };
const shared: Volume = { kind: "shared", directory: "/mnt/x", destination: "/x", readOnly: true };
const signal = new AbortController().signal;
const reasons = async (volumes: Volume[], from: VolumeSide, to: VolumeSide): Promise<string[]> =>
  (await volumeReasons({ volumes }, from, to, signal)).map(({ code, message }) => `${code} ${message}`);

describe("a named volume", () => {
  it("moves where none has its name", async () => {
    const other = { name: "other", container: null, bytes: 0 };
    expect(await reasons([named], side("vm-a", "missing"), side("vm-b", "missing", [other]))).toEqual([]);
  });

  it("does not move over one of its name, whoever has that", async () => {
    for (const [container, words] of [
      [null, 'vm-b has a volume "store" already'],
      ["db", 'vm-b has a volume "store" already, container db\'s'],
    ] as const) {
      const there = side("vm-b", "missing", [{ name: "store", container, bytes: 1 }]);
      expect(await reasons([named], side("vm-a", "missing"), there)).toEqual([`MWARP_E_NAME_TAKEN ${words}`]);
    }
  });
});

describe("a shared directory", () => {
  it("is one when what either side makes in it is seen by the other, and nothing stays there", async () => {
    const directory = new Set<string>();
    const [from, to] = [side("vm-a", directory), side("vm-b", directory)];
    expect(await reasons([shared], from, to)).toEqual([]);
    expect([from.asked, to.asked]).toEqual([["make", "remove"], ["look"]]);
    expect(directory.size).toBe(0);
  });

  it("is tried from the other side when it is read-only on the source", async () => {
    const directory = new Set<string>();
    const from = side("vm-a", "read-only");
    // As the source sees what is there, and cannot write.
    from.agent.call = (async (_method: AgentMethod, { token, act }: AgentParams<"directory.token">) => ({
      state: act === "make" ? "read-only" : directory.has(token) ? "with" : "without",
    })) as unknown as AgentCaller["call"];
    expect(await reasons([shared], from, side("vm-b", directory))).toEqual([]);
    expect(directory.size).toBe(0);
  });

  it("is none when it is another one, is not there, or cannot be tried", async () => {
    const cases: [Directory, Directory, RegExp][] = [
      [new Set(), new Set(), /at \/x: \/mnt\/x is not the same directory in vm-a and vm-b/],
      [new Set(), "missing", /vm-b has no directory \/mnt\/x/],
      ["missing", new Set(), /vm-a has no directory \/mnt\/x/],
      ["read-only", "read-only", /nothing can be written to \/mnt\/x in vm-a and vm-b/],
    ];
    for (const [here, there, words] of cases) {
      const [reason, ...more] = await reasons([shared], side("vm-a", here), side("vm-b", there));
      expect(reason).toMatch(words);
      expect(more).toEqual([]);
      for (const directory of [here, there]) if (directory instanceof Set) expect(directory.size).toBe(0);
    }
  });
});

it("a side that does not answer is a reason of its own, beside the others", async () => {
  const to = side("vm-b", "missing", [{ name: "store", container: null, bytes: 0 }]);
  const from = side("vm-a", "missing");
  from.agent.call = async () => {
    throw new MwarpError("MWARP_E_TIMEOUT", "vm-a does not answer");
  };
  expect(await reasons([named, shared], from, to)).toEqual([
    'MWARP_E_NAME_TAKEN vm-b has a volume "store" already',
    "MWARP_E_TIMEOUT vm-a does not answer",
  ]);
});
