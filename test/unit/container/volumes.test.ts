/** Volumes of a container that is to be made: where they may be, and what they take the place of. */
import { describe, expect, it } from "vitest";
import { adaptBundle, makeOciConfig } from "../../../src/container/oci.js";
import { checkVolumes } from "../../../src/container/volumes.js";
import { isMwarpError } from "../../../src/errors.js";
import type { Volume } from "../../../src/protocol/container.js";

const named = (name: string, destination: string): Volume => ({
  kind: "named",
  name,
  destination,
  readOnly: false,
});
const made = makeOciConfig({
  argv: ["x"],
  env: [],
  cwd: "/",
  hostname: "h",
  memoryLimitBytes: null,
  terminal: null,
});
const bind = (source: string, destination: string) => ({
  destination,
  type: "bind",
  source,
  options: ["rbind"],
});
const bundle = {
  ...made,
  mounts: [...(made.mounts as object[]), bind("/srv/a", "/a"), bind("/srv/b", "/b")],
};
const adapt = (volumes: readonly Volume[]) =>
  adaptBundle(bundle, {
    argv: null,
    env: [],
    cwd: null,
    hostname: "h",
    memoryLimitBytes: null,
    terminal: null,
    volumes,
  });

describe("a bundle's bind mounts", () => {
  it("are refused, each by name, where no volume is in their place, with what to type", () => {
    for (const [volumes, details] of [
      [[], ["mounts binds /srv/a of the VM to /a", "mounts binds /srv/b of the VM to /b"]],
      [[named("data", "/a")], ["mounts binds /srv/b of the VM to /b"]],
    ] as const) {
      const refused = [() => adapt(volumes)].map((act) => {
        try {
          return act();
        } catch (error) {
          return error;
        }
      })[0];
      if (!isMwarpError(refused)) throw new Error("was not refused");
      expect([refused.code, refused.details]).toEqual(["MWARP_E_UNSUPPORTED", details]);
      expect(refused.hint).toContain(volumes.length === 0 ? "--volume NAME:/a" : "--volume /srv/b:/b:shared");
    }
  });

  it("give way to volumes, which the agent mounts", () => {
    expect(adapt([named("one", "/a"), named("two", "/b")]).mounts).toEqual(made.mounts);
  });
});

describe("volumes", () => {
  it.each([
    [[named("a", "/proc/x")], /is in \/proc, \/sys or \/dev/],
    [[named("a", "/x/../y")], /no absolute path/],
    [[named("a", "/x"), named("b", "/x")], /two volumes cannot be at \/x/],
    [[named("a", "/x"), named("a", "/y")], /volume a can be in one place only/],
  ] as const)("cannot be anywhere: %j", (volumes, words) => {
    expect(() => checkVolumes(volumes)).toThrow(words);
  });

  it("may lie in one another", () => {
    expect(() => checkVolumes([named("a", "/x"), named("b", "/x/y")])).not.toThrow();
  });
});
