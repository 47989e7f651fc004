/** Ports of a container that its VM publishes by NAT: what comes for them goes on to come to this VM, wherever the container is. */
import * as z from "zod/mini";
import type { NetworkIdentity } from "../../protocol/container.js";
import { canonicalIpv6 } from "../../protocol/ip-address.js";
import { exists, readIfThere } from "../files.js";
import { log } from "../log.js";
import { run } from "../process.js";

const RulesetSchema = z.object({ nftables: z.array(z.record(z.string(), z.unknown())) });
const RuleSchema = z.looseObject({
  family: z.string(),
  table: z.string(),
  chain: z.string(),
  expr: z.array(z.unknown()),
});
const NatSchema = z.looseObject({ dnat: z.unknown() });
const MapSchema = z.looseObject({ name: z.string(), elem: z.optional(z.unknown()) });
const MatchSchema = z.looseObject({
  match: z.looseObject({
    left: z.looseObject({ payload: z.looseObject({ field: z.string() }) }),
    right: z.unknown(),
  }),
});

/** Each named with its rule. Rules of nftables and of iptables, which are nftables' too unless they are of the old kind. */
export async function publishedPorts(network: NetworkIdentity): Promise<string[]> {
  const found = await Promise.all([nftRules(network), legacyRules(network), virtualServers(network)]);
  return found.flat().map((what) => `the container: ${what}`);
}

async function nftRules(network: NetworkIdentity): Promise<string[]> {
  if (!(await exists("/sys/module/nf_tables"))) return [];
  const { code, stdout, stderr } = await run(["nft", "-j", "list", "ruleset"]).catch((error: unknown) => ({
    code: 1,
    stdout: "",
    stderr: String(error),
  }));
  // Targets of iptables that nft cannot read, only name.
  const iptables = stdout.includes('"DNAT"')
    ? await savedRules(["iptables-nft-save", "ip6tables-nft-save"], network)
    : [];
  if (code === 0) return [...judgeRuleset(stdout, network), ...iptables];
  log("warn", `rules of nftables are not known: ${stderr.trim()}`);
  return [];
}

/** From `nft -j list ruleset`. */
export function judgeRuleset(json: string, network: NetworkIdentity): string[] {
  const ruleset = RulesetSchema.safeParse(JSON.parse(json === "" ? '{"nftables":[]}' : json));
  if (!ruleset.success) return [];
  const maps = ruleset.data.nftables.flatMap(({ map }) => {
    const named = MapSchema.safeParse(map);
    return named.success && mentions(named.data.elem, network) ? [`@${named.data.name}`] : [];
  });
  return ruleset.data.nftables.flatMap(({ rule: raw }) => {
    const rule = RuleSchema.safeParse(raw);
    if (!rule.success) return [];
    const { family, table, chain, expr } = rule.data;
    const target = expr.map((part) => NatSchema.safeParse(part)).find(({ success }) => success)?.data?.dnat;
    if (target === undefined || !mentions(target, network, maps)) return [];
    const port = expr.map(matchedPort).find((value) => value !== null) ?? "every port";
    return [`its VM publishes ${port} for it by NAT (nftables: table ${family} ${table}, chain ${chain})`];
  });
}

function matchedPort(part: unknown): string | null {
  const match = MatchSchema.safeParse(part);
  if (!match.success || match.data.match.left.payload.field !== "dport") return null;
  const { right } = match.data.match;
  return `port ${typeof right === "number" ? right : JSON.stringify(right)}`;
}

/** In whatever structure: an address, an element of a map or of a range, or the name of one of `maps`. */
function mentions(value: unknown, network: NetworkIdentity, maps: readonly string[] = []): boolean {
  const { ipv4, ipv6 } = network;
  if (typeof value === "string")
    return value === ipv4 || maps.includes(value) || (ipv6 !== null && canonicalIpv6(value) === ipv6.address);
  if (typeof value !== "object" || value === null) return false;
  return Object.values(value).some((part) => mentions(part, network, maps));
}

/** iptables' own tables, where the kernel has any. */
async function legacyRules(network: NetworkIdentity): Promise<string[]> {
  const tools = {
    "/proc/net/ip_tables_names": "iptables-legacy-save",
    "/proc/net/ip6_tables_names": "ip6tables-legacy-save",
  };
  const found = Object.entries(tools).map(async ([names, tool]) =>
    ((await readIfThere(names)) ?? "").split("\n").includes("nat") ? savedRules([tool], network) : [],
  );
  return (await Promise.all(found)).flat();
}

async function savedRules(tools: readonly string[], network: NetworkIdentity): Promise<string[]> {
  const found: string[] = [];
  for (const tool of tools) {
    const { stdout } = await run([tool, "-t", "nat"]).catch((error: unknown) => {
      log("warn", `rules of ${tool} are not known: ${String(error)}`);
      return { stdout: "" };
    });
    found.push(...judgeIptables(stdout, network));
  }
  return found;
}

/** From lines of iptables-save. */
export function judgeIptables(text: string, { ipv4, ipv6 }: NetworkIdentity): string[] {
  return text.split("\n").flatMap((line) => {
    const target = /^-A (\S+) .*-j DNAT .*--to-destination (\S+)/.exec(line);
    const address = /^\[?([0-9a-f.:]+?)\]?(?::\d+(?:-\d+)?)?$/.exec(target?.[2] ?? "")?.[1];
    if (target === null || address === undefined) return [];
    if (address !== ipv4 && (ipv6 === null || canonicalIpv6(address) !== ipv6.address)) return [];
    const port = /--dport (\S+)/.exec(line)?.[1];
    return [
      `its VM publishes ${port === undefined ? "every port" : `port ${port}`} for it by NAT (iptables: chain ${target[1]})`,
    ];
  });
}

/** IPVS: "  -> 0A4D0064:0050      Masq ...", addresses and ports in hexadecimal. */
async function virtualServers(network: NetworkIdentity): Promise<string[]> {
  return judgeIpvs((await readIfThere("/proc/net/ip_vs")) ?? "", network);
}

export function judgeIpvs(text: string, { ipv4 }: NetworkIdentity): string[] {
  const hex = ipv4
    .split(".")
    .map((part) => Number(part).toString(16).padStart(2, "0").toUpperCase())
    .join("");
  return [...text.matchAll(new RegExp(`^\\s+-> ${hex}:([0-9A-F]{4})`, "gm"))].map(
    ([, port = ""]) => `its VM sends to its port ${Number.parseInt(port, 16)} as a virtual server (IPVS)`,
  );
}
