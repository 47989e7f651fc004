import { describe, expect, it } from "vitest";
import { allocateNetwork } from "../../../src/container/network.js";
import { NetworkIdentitySchema } from "../../../src/protocol/container.js";

const free = { ipv4: null, ipv6: null, mac: null };
const upTo = (count: number) =>
  Array.from({ length: count }, () => 0).reduce<ReturnType<typeof allocateNetwork>[]>(
    (taken) => [...taken, allocateNetwork(taken, free)],
    [],
  );

describe("allocateNetwork", () => {
  it("gives the lowest free address and a locally administered MAC made from it", () => {
    expect(allocateNetwork([], free)).toEqual({
      ipv4: "10.77.0.100",
      mac: "02:6d:0a:4d:00:64",
      prefixLength: 24,
      gateway: null,
      ipv6: { address: "fd6d:7761:7270::100", prefixLength: 64 },
    });
    const taken = upTo(3);
    expect(taken.map(({ ipv4 }) => ipv4)).toEqual(["10.77.0.100", "10.77.0.101", "10.77.0.102"]);
    expect(allocateNetwork([taken[0]!, taken[2]!], free).ipv4).toBe("10.77.0.101");
  });

  it("gives each container another address and MAC until none is left, then refuses", () => {
    const all = upTo(155);
    expect(new Set(all.map(({ ipv4 }) => ipv4)).size).toBe(155);
    expect(new Set(all.map(({ mac }) => mac)).size).toBe(155);
    for (const identity of all) expect(NetworkIdentitySchema.safeParse(identity).success).toBe(true);
    expect(() => allocateNetwork(all, free)).toThrow(
      expect.objectContaining({ code: "MWARP_E_UNSUPPORTED" }),
    );
  });

  it("takes what is wanted, with the MAC in lower case", () => {
    expect(allocateNetwork([], { ...free, ipv4: "10.77.0.200", mac: "02:AB:00:00:00:01" })).toMatchObject({
      ipv4: "10.77.0.200",
      mac: "02:ab:00:00:00:01",
    });
  });

  it("avoids a MAC that another container was given by hand", () => {
    const byHand = allocateNetwork([], { ...free, ipv4: "10.77.0.200", mac: "02:6d:0a:4d:00:64" });
    expect(allocateNetwork([byHand], free)).toMatchObject({
      ipv4: "10.77.0.100",
      mac: "02:6e:0a:4d:00:64",
    });
  });

  it.each(["10.77.0.99", "10.77.0.255", "10.77.1.100", "10.77.0.0100", "10.77.0.100.1", "web", ""])(
    "refuses the address %j",
    (ipv4) => {
      expect(() => allocateNetwork([], { ...free, ipv4 })).toThrow(
        expect.objectContaining({ code: "MWARP_E_USAGE" }),
      );
    },
  );

  it.each([
    "01:00:00:00:00:01",
    "ff:ff:ff:ff:ff:ff",
    "00:00:00:00:00:00",
    "02:00:00:00:01",
    "02-00-00-00-00-01",
  ])("refuses the MAC %s", (mac) => {
    expect(() => allocateNetwork([], { ...free, mac })).toThrow(
      expect.objectContaining({ code: "MWARP_E_USAGE" }),
    );
  });

  it("gives each an IPv6 address that ends as its IPv4 one, or another where that was given by hand", () => {
    const all = upTo(155);
    expect(new Set(all.map(({ ipv6 }) => ipv6?.address)).size).toBe(155);
    expect(all.at(-1)?.ipv6?.address).toBe("fd6d:7761:7270::254");
    const byHand = allocateNetwork([], { ...free, ipv4: "10.77.0.200", ipv6: "fd6d:7761:7270::100" });
    expect(allocateNetwork([byHand], free).ipv6?.address).toBe("fd6d:7761:7270::1000");
  });

  it("takes the IPv6 address that is wanted, however it is written, or none", () => {
    const wanted = { ...free, ipv6: "FD6D:7761:7270:0:0:0:0:ABC" };
    expect(allocateNetwork([], wanted).ipv6?.address).toBe("fd6d:7761:7270::abc");
    const without = allocateNetwork([], { ...free, ipv6: "none" });
    expect(without.ipv6).toBeNull();
    expect(allocateNetwork([without], { ...free, ipv6: "none" }).ipv6).toBeNull();
  });

  it.each([
    "fd6d:7761:7270::1",
    "fd6d:7761:7270::ff",
    "fd6d:7761:7270::1:100",
    "fd6d:7761:7271::100",
    "::100",
    "no",
    "",
  ])("refuses the IPv6 address %j", (ipv6) => {
    expect(() => allocateNetwork([], { ...free, ipv6 })).toThrow(
      expect.objectContaining({ code: "MWARP_E_USAGE" }),
    );
  });

  it("reads records of containers that were made before there were IPv6 addresses", () => {
    const { ipv6: _, ...old } = allocateNetwork([], free);
    expect(NetworkIdentitySchema.parse(old)).toEqual({ ...old, ipv6: null });
  });

  it("refuses a wanted address or MAC that is in use", () => {
    const taken = upTo(1);
    for (const wanted of [
      { ...free, ipv4: taken[0]!.ipv4 },
      { ...free, ipv6: taken[0]!.ipv6!.address },
      { ...free, mac: taken[0]!.mac },
    ]) {
      expect(() => allocateNetwork(taken, wanted)).toThrow(
        expect.objectContaining({ code: "MWARP_E_NAME_TAKEN" }),
      );
    }
  });
});
