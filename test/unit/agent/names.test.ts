import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type * as Store from "../../../src/agent/containers/store.js";
import type { ContainerSpec } from "../../../src/protocol/container.js";

const spec = (id: string): ContainerSpec => ({
  name: "web",
  id: id.repeat(32),
  rootfs: "0".repeat(64),
  network: { mac: "02:00:00:00:00:01", ipv4: "10.0.0.2", prefixLength: 24, gateway: null, ipv6: null },
  hostname: "web",
  runtime: "runc",
  oci: {},
  createdAt: "2024-01-01T00:00:00Z",
  restart: { name: "no" },
  health: null,
});

/** The store, with its files under a directory of the test. */
async function storeIn(root: string): Promise<typeof Store> {
  vi.resetModules();
  vi.doMock("../../../src/agent/paths.js", async (original) => {
    const real = await original<typeof import("../../../src/agent/paths.js")>();
    const moved = (path: string) => join(root, path.slice(real.ROOT.length));
    return {
      ...real,
      CONTAINERS_DIR: moved(real.CONTAINERS_DIR),
      STAGING_DIR: moved(real.STAGING_DIR),
      containerPaths: (name: string) => {
        const paths = real.containerPaths(name);
        return { ...paths, dir: moved(paths.dir), spec: moved(paths.spec), held: moved(paths.held) };
      },
    };
  });
  return await import("../../../src/agent/containers/store.js");
}

describe("the name of a container", () => {
  let root: string;
  let store: typeof Store;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "mwarp-names-"));
    for (const dir of ["containers", "staging"]) await mkdir(join(root, dir));
    store = await storeIn(root);
  });

  afterEach(async () => {
    vi.doUnmock("../../../src/agent/paths.js");
    await rm(root, { recursive: true, force: true });
  });

  it("is claimed with the record and the migration that has it", async () => {
    await store.claimName(spec("a"), { migration: "m-1" });
    expect(await store.loadSpec("web")).toEqual(spec("a"));
    expect(await store.heldBy("web")).toBe("m-1");
    expect(await readdir(join(root, "staging"))).toEqual([]);
  });

  it("stays with the one who has it", async () => {
    await store.claimName(spec("a"), { migration: null });
    await expect(store.claimName(spec("b"), { migration: "m-1" })).rejects.toMatchObject({
      code: "MWARP_E_NAME_TAKEN",
    });
    expect(await store.loadSpec("web")).toEqual(spec("a"));
    expect(await store.heldBy("web")).toBeNull();
  });

  it("goes to one of two who claim it at the same time, and the other one's mark is not left on it", async () => {
    const results = await Promise.allSettled([
      store.claimName(spec("a"), { migration: "m-a" }),
      store.claimName(spec("b"), { migration: "m-b" }),
    ]);
    expect(results.map((result) => result.status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(results.find((result) => result.status === "rejected")).toMatchObject({
      reason: { code: "MWARP_E_NAME_TAKEN" },
    });
    const owner = results[0]?.status === "fulfilled" ? "a" : "b";
    expect(await store.loadSpec("web")).toEqual(spec(owner));
    expect(await store.heldBy("web")).toBe(`m-${owner}`);
    expect(await readdir(join(root, "staging"))).toEqual([]);
  });

  it("can be freed when only a part of the container is left, and twice", async () => {
    await mkdir(join(root, "containers/web/bundle"), { recursive: true });
    await writeFile(join(root, "containers/web/held"), "m-1");
    await store.freeName("web");
    await store.freeName("web");
    expect(await readdir(join(root, "containers"))).toEqual([]);
    await store.claimName(spec("b"), { migration: null });
  });

  it("is not listed while there is no record under it", async () => {
    await mkdir(join(root, "containers/web"));
    expect(await store.listContainers()).toEqual([]);
  });
});
