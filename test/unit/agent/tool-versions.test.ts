import { describe, expect, it } from "vitest";
import { run } from "../../../src/agent/process.js";
import { ToolFinder } from "../../../src/agent/tool-versions.js";
import { MwarpError } from "../../../src/errors.js";

const says = {
  criu: "Version: 4.1.1\n",
  runc: "runc version 1.1.15\nspec: 1.0.2\n",
  crun: "crun version 1.21\nspec: 1.0.0\n+SYSTEMD +CRIU +YAJL\n",
  ldconfig: "\tlibcriu.so.2 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcriu.so.2\n",
};
const answer = ([tool]: readonly string[], said: Readonly<Record<string, string>> = says) => ({
  code: 0,
  stdout: said[tool ?? ""] ?? "",
  stderr: "",
});
const found = { criuVersion: "4.1.1", runcVersion: "1.1.15", crun: { version: "1.21", criu: true } };

describe("the versions of CRIU, runc and crun", () => {
  it("are asked for once", async () => {
    const asked: string[] = [];
    const finder = new ToolFinder(async (argv) => {
      asked.push(argv.join(" "));
      return answer(argv);
    });
    for (let i = 0; i < 2; i++) expect(await finder.versions()).toEqual(found);
    expect(asked).toEqual(["criu --version", "runc --version", "crun --version", "ldconfig -p"]);
  });

  it.each([
    ["was built without it", { crun: "crun version 1.21\n+SYSTEMD -CRIU +YAJL\n" }],
    ["does not find its library", { ldconfig: "\tlibc.so.6\n" }],
  ])("say of a crun that %s that it cannot use CRIU", async (_, change) => {
    const finder = new ToolFinder(async (argv) => answer(argv, { ...says, ...change }));
    expect((await finder.versions()).crun).toEqual({ version: "1.21", criu: false });
  });

  it.each([
    [
      "does not answer in time",
      new MwarpError("MWARP_E_TIMEOUT", "criu --version took longer than 120000 ms"),
    ],
    ["is killed", { code: 137, stdout: "", stderr: "" }],
  ])("are asked for again, and nothing is called missing, when one %s", async (_, end) => {
    let tries = 0;
    const finder = new ToolFinder(async (argv) => {
      if (argv[0] !== "criu" || tries++ > 0) return answer(argv);
      if (end instanceof Error) throw end;
      return end;
    });
    await expect(finder.versions()).rejects.toThrow(/criu --version/);
    expect(await finder.versions()).toEqual(found);
  });

  it("are null of what is not there, and of what says nothing that could be one", async () => {
    const finder = new ToolFinder((argv, options) =>
      run(argv[0] === "criu" ? ["mwarp-no-such-program"] : ["true"], options),
    );
    expect(await finder.versions()).toEqual({
      criuVersion: null,
      runcVersion: null,
      crun: null,
    });
  });
});
