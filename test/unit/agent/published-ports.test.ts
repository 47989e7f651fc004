import { describe, expect, it } from "vitest";
import { judgeIptables, judgeIpvs, judgeRuleset } from "../../../src/agent/migration/published-ports.js";

const network = {
  mac: "02:6d:0a:4d:00:64",
  ipv4: "10.77.0.100",
  prefixLength: 24,
  gateway: null,
  ipv6: { address: "fd6d:7761:7270::100", prefixLength: 64 },
};
const dport = (right: unknown) => ({
  match: { op: "==", left: { payload: { protocol: "tcp", field: "dport" } }, right },
});
const rules = (...exprs: readonly unknown[][]): string =>
  JSON.stringify({
    nftables: [
      { metainfo: { version: "1.1.3" } },
      { table: { family: "ip", name: "nat", handle: 1 } },
      ...exprs.map((expr) => ({ rule: { family: "ip", table: "nat", chain: "pre", handle: 2, expr } })),
    ],
  });
const place = "(nftables: table ip nat, chain pre)";

describe("a port that a VM publishes by NAT", () => {
  it.each([
    [[dport(8080), { dnat: { addr: "10.77.0.100", port: 80 } }], "port 8080"],
    [[dport({ set: [80, 443] }), { dnat: { addr: "10.77.0.100" } }], 'port {"set":[80,443]}'],
    [[{ dnat: { family: "ip6", addr: "FD6D:7761:7270::0100" } }], "every port"],
    [[{ dnat: { addr: { map: { key: {}, data: { set: [[80, "10.77.0.100"]] } } } } }], "every port"],
  ])("is found in the rule %j", (expr, port) => {
    expect(judgeRuleset(rules(expr), network)).toEqual([`its VM publishes ${port} for it by NAT ${place}`]);
  });

  it("is found by way of a named map", () => {
    const ruleset = JSON.parse(rules([{ dnat: { addr: { map: { key: {}, data: "@ports" } } } }]));
    ruleset.nftables.push({ map: { family: "ip", name: "ports", elem: [[80, "10.77.0.100"]] } });
    expect(judgeRuleset(JSON.stringify(ruleset), network)).toHaveLength(1);
    ruleset.nftables.at(-1).map.elem = [[80, "10.77.0.101"]];
    expect(judgeRuleset(JSON.stringify(ruleset), network)).toEqual([]);
  });

  it("is not seen in rules for others, or that do something else", () => {
    const others = rules(
      [dport(80), { dnat: { addr: "10.77.0.101", port: 80 } }],
      [dport(80), { dnat: { addr: "10.77.0.10" } }],
      [
        { match: { op: "==", left: { payload: { protocol: "ip", field: "saddr" } }, right: "10.77.0.100" } },
        { accept: null },
      ],
    );
    expect(judgeRuleset(others, network)).toEqual([]);
    expect(judgeRuleset("", network)).toEqual([]);
  });

  it("is found in what iptables saves", () => {
    const saved = `*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.77.0.100:80
-A PREROUTING -p tcp -m tcp --dport 8081 -j DNAT --to-destination 10.77.0.101:80
-A PREROUTING -p tcp -m tcp --dport 8082 -j DNAT --to-destination [fd6d:7761:7270::100]:80
-A PREROUTING -d 10.0.0.1/32 -j DNAT --to-destination 10.77.0.100
-A POSTROUTING -s 10.77.0.100/32 -j MASQUERADE
COMMIT`;
    expect(judgeIptables(saved, network).map((text) => /publishes (.*) for it/.exec(text)?.[1])).toEqual([
      "port 8080",
      "port 8082",
      "every port",
    ]);
  });

  it("is found among the virtual servers of IPVS", () => {
    const text = `Prot LocalAddress:Port Scheduler Flags
TCP  0A4D000A:1F90 rr
  -> 0A4D0064:0050      Masq    1      0          0
  -> 0A4D0065:0050      Masq    1      0          0`;
    expect(judgeIpvs(text, network)).toEqual(["its VM sends to its port 80 as a virtual server (IPVS)"]);
  });
});
