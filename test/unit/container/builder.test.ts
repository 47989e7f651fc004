import { describe, expect, it } from "vitest";
import { createContainerBuilder, type SpecFacts } from "../../../src/container/builder.js";
import { NO_WISH } from "../../../src/protocol/health.js";
import { NO_RESTART } from "../../../src/protocol/restart.js";

const builder = createContainerBuilder("/nowhere");
const facts: SpecFacts = {
  name: "web",
  id: "1".repeat(32),
  rootfs: "2".repeat(64),
  network: builder.network([], { ipv4: null, ipv6: null, mac: null }),
  hostname: "web",
  runtime: "runc",
  createdAt: "2026-01-01T00:00:00.000Z",
  argv: ["sh"],
  env: [],
  workdir: null,
  memoryLimitBytes: null,
  terminal: { rows: 24, columns: 80 },
  bundleConfig: null,
  image: null,
  volumes: [],
  restart: NO_RESTART,
  health: NO_WISH,
};

describe("a container with a terminal", () => {
  it("is made with runc, and refused by name with another runtime, whoever asks for the terminal", () => {
    const { oci } = builder.spec(facts);
    expect(oci).toMatchObject({ process: { terminal: true, consoleSize: { height: 24, width: 80 } } });
    expect(() => builder.spec({ ...facts, runtime: "crun" })).toThrow("a container of crun has no terminal");
    const bundle = { ...facts, runtime: "crun", terminal: null, bundleConfig: oci } as const;
    expect(() => builder.spec(bundle)).toThrow("a container of crun has no terminal");
    expect(builder.spec({ ...facts, runtime: "crun", terminal: null })).toMatchObject({ runtime: "crun" });
  });
});
