import { describe, expect, it } from "vitest";
import { collectVolumes } from "../../../src/cli/volume-option.js";

const collect = (...texts: string[]) =>
  texts.reduce((all, text) => collectVolumes(text, all), [] as ReturnType<typeof collectVolumes>);

describe("--volume", () => {
  it("takes names, and directories of the VM that are said to be shared", () => {
    expect(collect("db:/var/lib/db", "logs:/logs:ro", "/mnt/x:/x:shared", "/mnt/y:/y:shared,ro")).toEqual([
      { kind: "named", name: "db", destination: "/var/lib/db", readOnly: false },
      { kind: "named", name: "logs", destination: "/logs", readOnly: true },
      { kind: "shared", directory: "/mnt/x", destination: "/x", readOnly: false },
      { kind: "shared", directory: "/mnt/y", destination: "/y", readOnly: true },
    ]);
  });

  it("says what becomes of a directory that would stay behind", () => {
    expect(() => collect("/srv/data:/data")).toThrow(/does not move.*\/srv\/data:\/data:shared.*NAME:\/data/);
  });

  const wrong: readonly (readonly [string[], RegExp])[] = [
    [["db"], /no absolute path/],
    [["db:data"], /no absolute path/],
    [["db:/"], /no absolute path/],
    [["db:/a/../b"], /without \. and \.\./],
    [["db:/proc/x"], /\/proc, \/sys or \/dev/],
    [["db:/data:rx"], /Write NAME/],
    [["db:/data:ro:rw"], /Write NAME/],
    [[":/data"], /Write NAME/],
    [["-x:/data"], /begins with a letter/],
    [["db:/data:shared"], /cannot be shared/],
    [["a:/data", "b:/data"], /Two volumes/],
    [["a:/one", "a:/two"], /one place only/],
  ];
  it.each(wrong)("refuses %j", (texts, words) => {
    expect(() => collect(...texts)).toThrow(words);
  });
});
