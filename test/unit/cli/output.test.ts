import { InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import { formatAge, formatBytes, formatMs } from "../../../src/cli/output/format.js";
import { MigrationProgress } from "../../../src/cli/output/progress.js";
import { exitOfReport, failureLines, summaryLine, whereabouts } from "../../../src/cli/output/report.js";
import { painter } from "../../../src/cli/output/style.js";
import { renderTable } from "../../../src/cli/output/table.js";
import {
  collectEnv,
  parseCount,
  parseDuration,
  parseIpv4,
  parseMac,
  parseName,
  parseSize,
} from "../../../src/cli/parse.js";
import type { ErrorCode } from "../../../src/errors.js";
import type { MigrationReport } from "../../../src/protocol/migration.js";
import { moveWeb } from "../../support/requests.js";
import { report } from "../daemon/fake-report.js";
import { Sink } from "./fake-io.js";

const web = moveWeb();
const reportWith = (changes: Partial<MigrationReport>): MigrationReport => report("m-1", web, changes);
const failed = (code: ErrorCode, details: string[] = []): MigrationReport["error"] => ({
  code,
  message: "what happened",
  hint: "what to do",
  phase: "restore",
  details,
});

describe("quantities", () => {
  it("show bytes with three digits at most", () => {
    const cases: [number, string][] = [
      [0, "0 B"],
      [1023, "1023 B"],
      [1024, "1.0 KiB"],
      [10_189, "10 KiB"],
      [1 << 20, "1.0 MiB"],
      [268_435_456, "256 MiB"],
      [1_073_741_823, "1.0 GiB"],
      [1 << 30, "1.0 GiB"],
      [5.5 * 1024 ** 4, "5.5 TiB"],
      [2000 * 1024 ** 4, "2000 TiB"],
    ];
    for (const [bytes, text] of cases) expect(formatBytes(bytes)).toBe(text);
  });

  it("show times in the unit that fits", () => {
    const cases: [number, string][] = [
      [0, "0.0 ms"],
      [0.42, "0.4 ms"],
      [0.96, "1 ms"],
      [41.3, "41 ms"],
      [999.4, "999 ms"],
      [999.6, "1.0 s"],
      [59_900, "59.9 s"],
      [59_970, "1 m 00 s"],
      [125_000, "2 m 05 s"],
    ];
    for (const [ms, text] of cases) expect(formatMs(ms)).toBe(text);
  });

  it("show how long ago something was", () => {
    const now = Date.parse("2026-01-10T00:00:00Z");
    expect(formatAge("2026-01-09T23:59:30Z", now)).toBe("just now");
    expect(formatAge("2026-01-09T23:55:00Z", now)).toBe("5 m ago");
    expect(formatAge("2026-01-08T23:00:00Z", now)).toBe("25 h ago");
    expect(formatAge("2026-01-01T00:00:00Z", now)).toBe("9 d ago");
    expect(formatAge("nonsense", now)).toBe("-");
  });
});

describe("values people type", () => {
  it("are sizes by powers of 1024", () => {
    expect(parseSize("2G")).toBe(2 * 1024 ** 3);
    expect(parseSize("512m")).toBe(512 * 1024 ** 2);
    expect(parseSize("1.5GiB")).toBe(1.5 * 1024 ** 3);
    expect(parseSize("4096")).toBe(4096);
    for (const bad of ["", "G", "2X", "-1G", "0", "1.3", "2 G B"])
      expect(() => parseSize(bad)).toThrow(InvalidArgumentError);
  });

  it("are names that can be path parts and host names", () => {
    for (const fine of ["web", "a", "9", "Web_1.x-y"]) expect(parseName(fine)).toBe(fine);
    expect(() => parseName("-web")).toThrow("begins with a letter or a digit");
    expect(() => parseName("we/b")).toThrow("letters, digits");
    expect(() => parseName("w".repeat(64))).toThrow("at most 63");
    expect(() => parseName("")).toThrow(InvalidArgumentError);
  });

  it("are lengths of time", () => {
    expect(parseDuration("30")).toBe(30_000);
    expect(parseDuration("500ms")).toBe(500);
    expect(parseDuration("1.5s")).toBe(1500);
    expect(parseDuration("2m")).toBe(120_000);
    for (const bad of ["0", "-1s", "fast", "1d", ""])
      expect(() => parseDuration(bad)).toThrow(InvalidArgumentError);
  });

  it("are addresses, counts and variables", () => {
    expect(parseIpv4("10.0.0.1")).toBe("10.0.0.1");
    for (const bad of ["10.0.0", "10.0.0.256", "a.b.c.d"])
      expect(() => parseIpv4(bad)).toThrow(InvalidArgumentError);
    expect(parseMac("02:AB:00:00:00:01")).toBe("02:ab:00:00:00:01");
    expect(() => parseMac("01:00:5e:00:00:01")).toThrow("multicast");
    expect(parseCount(1)("3")).toBe(3);
    for (const bad of ["0", "-1", "1.5", "x", ""])
      expect(() => parseCount(1)(bad)).toThrow(InvalidArgumentError);
    expect(collectEnv("B=2=3", ["A=1"])).toEqual(["A=1", "B=2=3"]);
    expect(() => collectEnv("A")).toThrow(InvalidArgumentError);
  });
});

describe("the summary of a migration", () => {
  it("tells times, the parts of the downtime and what became of the memory", () => {
    expect(summaryLine(reportWith({}))).toBe(
      "moved web vm-a -> vm-b in 312 ms, downtime 41 ms (dump 9 restore 26 warp 3 resume 3), 1.0 GiB remapped, 0 B copied",
    );
  });

  it("says that cold copies over the network", () => {
    expect(summaryLine(reportWith({ method: "cold", backend: null }))).toMatch(
      /, 1\.0 GiB copied over the network$/,
    );
  });
});

describe("a failed migration", () => {
  it("says first where the container is, then why, then what the runtime said, then what to type", () => {
    const aborted = reportWith({
      outcome: "aborted",
      error: failed("MWARP_E_RESTORE", ["Error: no such file"]),
    });
    expect(failureLines(aborted, "/var/lib/mwarp/m-1")).toEqual([
      "web is running on vm-a",
      "aborted in restore: what happened [MWARP_E_RESTORE]",
      "  Error: no such file",
      "logs: /var/lib/mwarp/m-1",
      "next: mwarp inspect m-1  (what to do)",
    ]);
  });

  it("lists every reason of a refusal", () => {
    const refused = reportWith({ outcome: "refused", error: failed("MWARP_E_NO_MEMORY", ["one", "two"]) });
    expect(failureLines(refused, null)).toEqual([
      "web is on vm-a, untouched",
      "refused in restore: 2 reasons [MWARP_E_NO_MEMORY]",
      "  one",
      "  two",
      "next: what to do",
    ]);
  });

  it("never claims a side runs that may be frozen", () => {
    const stuck = reportWith({ outcome: "aborted", error: failed("MWARP_E_NEEDS_RECOVERY") });
    expect(whereabouts(stuck)).toBe("web belongs to vm-a; it may be frozen there");
    const forward = reportWith({ error: failed("MWARP_E_NEEDS_RECOVERY") });
    expect(whereabouts(forward)).toBe("web belongs to vm-b now");
    expect(failureLines(stuck, null).at(-1)).toBe("next: mwarp recover");
  });

  it("has the exit status that its outcome means", () => {
    const cases: [Partial<MigrationReport>, number][] = [
      [{}, 0],
      [{ outcome: "aborted", error: failed("MWARP_E_RESTORE") }, 1],
      [{ outcome: "aborted", error: failed("MWARP_E_AGENT_UNREACHABLE") }, 1],
      [{ outcome: "aborted", error: failed("MWARP_E_CANCELLED") }, 7],
      [{ outcome: "aborted", error: failed("MWARP_E_NEEDS_RECOVERY") }, 8],
      [{ outcome: "refused", error: failed("MWARP_E_NO_MEMORY") }, 5],
      [{ outcome: "refused", error: failed("MWARP_E_VM_UNKNOWN") }, 6],
      [{ outcome: "refused", error: failed("MWARP_E_AGENT_UNREACHABLE") }, 3],
      [{ error: failed("MWARP_E_RUNTIME") }, 8],
    ];
    for (const [changes, status] of cases) expect(exitOfReport(reportWith(changes))).toBe(status);
  });
});

describe("progress", () => {
  const play = (isTTY: boolean): string => {
    const stderr = new Sink();
    stderr.isTTY = isTTY;
    let now = 0;
    const progress = new MigrationProgress({ stderr, env: {} }, { container: "web", to: "vm-b" }, () => now);
    progress.handle({ event: "phase", id: "m", phase: "preflight", elapsed_ms: 0 });
    now = 12;
    progress.handle({ event: "phase", id: "m", phase: "dump", elapsed_ms: 12 });
    progress.handle({ event: "note", id: "m", message: "a note" });
    progress.handle({ event: "done", id: "m", report: report("m", web) });
    return stderr.text;
  };

  it("is one line per phase, with its time, when nobody watches", () => {
    expect(play(false)).toBe("preflight 12 ms\na note\ndump 300 ms\n");
  });

  it("is one live line on a terminal, gone at the end", () => {
    const text = play(true);
    const clear = "\r\u001b[2K";
    expect(text.endsWith(clear)).toBe(true);
    expect(text).toContain(`${clear}web -> vm-b  \u001b[36mdump\u001b[0m  12 ms`);
    expect(text.split("\n")).toHaveLength(2);
  });
});

describe("colour", () => {
  const tty = Object.assign(new Sink(), { isTTY: true });
  it("is for terminals, and not with NO_COLOR or a dumb one", () => {
    expect(painter({ env: {} }, tty)("red", "x")).toBe("\u001b[31mx\u001b[0m");
    expect(painter({ env: { NO_COLOR: "1" } }, tty)("red", "x")).toBe("x");
    expect(painter({ env: { TERM: "dumb" } }, tty)("red", "x")).toBe("x");
    expect(painter({ env: {} }, new Sink())("red", "x")).toBe("x");
  });
});

describe("tables", () => {
  it("have columns two spaces apart and no blanks at the end of a line", () => {
    const text = renderTable(
      ["NAME", "VM"],
      [
        ["web", "vm-a"],
        ["database", ""],
      ],
    );
    expect(text).toBe("NAME      VM\nweb       vm-a\ndatabase\n");
  });
});
