import { describe, expect, it } from "vitest";
import { addressBytes, canonicalIpv6 } from "../../../src/protocol/ip-address.js";

describe("the bytes of an address", () => {
  it.each([
    ["10.77.0.100", [10, 77, 0, 100]],
    ["::", new Array(16).fill(0)],
    ["::1", [...new Array(15).fill(0), 1]],
    ["fd6d:7761:7270::100", [0xfd, 0x6d, 0x77, 0x61, 0x72, 0x70, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]],
    ["1:2:3:4:5:6:7:ffff", [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 255, 255]],
    ["::ffff:10.77.0.1", [...new Array(10).fill(0), 255, 255, 10, 77, 0, 1]],
    ["fe80::", [0xfe, 0x80, ...new Array(14).fill(0)]],
  ])("are those of %s", (text, bytes) => {
    expect(addressBytes(text)).toEqual(bytes);
  });

  it.each(["", "web", "10.77.0", "10.77.0.256", "fe80::1%eth0", "1::2::3", "[::1]", "::1/64"])(
    "are none for %j",
    (text) => {
      expect(addressBytes(text)).toBeNull();
      expect(canonicalIpv6(text)).toBeNull();
    },
  );

  it("are the same for every way to write an address, of which one is canonical", () => {
    for (const text of ["FD6D:7761:7270:0:0:0:0:100", "fd6d:7761:7270::0100", "fd6d:7761:7270:0::0:100"]) {
      expect(canonicalIpv6(text)).toBe("fd6d:7761:7270::100");
      expect(addressBytes(text)).toEqual(addressBytes("fd6d:7761:7270::100"));
    }
  });
});
