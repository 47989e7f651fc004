/** The command as a person or a script meets it: wrong input, pipes, missing things. */
import { describe, expect, it } from "vitest";
import { DaemonStatusSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";

const host = useLab({ memory: "512M" });

describe("the command line", () => {
  it.each([
    [["migrate"]],
    [["migrate", "web"]],
    [["migrate", "web", "--to", "vm-b", "--method", "teleport"]],
    [["run", "--vm", "vm-a"]],
    [["run", "--vm", "vm-a", "--name", "../etc", "--rootfs", "/", "--", "sh"]],
    [["lab", "up", "--vms", "none"]],
    [["lab", "up", "--memory", "much"]],
    [["frobnicate"]],
  ])("says what is wrong with %j and exits with 2", async (args) => {
    const end = await host.lab.mwarp.run(args);
    expect(end.exit).toBe(2);
    expect(end.stderr).not.toBe("");
    expect(end.stdout).toBe("");
    expect(end.stderr).not.toMatch(/\n\s+at /);
  });

  it.each([
    [["exec", "nobody", "--", "true"], 6],
    [["logs", "nobody"], 6],
    [["rm", "nobody"], 6],
    [["inspect", "no-such-migration"], 6],
    [["run", "--vm", "vm-x", "--name", "web", "--rootfs", "/", "--", "sh"], 6],
    [["run", "--vm", "vm-a", "--name", "web", "--rootfs", "/no/such/directory", "--", "sh"], 2],
  ] as const)("exits as documented for %j", async (args, exit) => {
    const end = await host.lab.mwarp.run(args);
    expect([end.exit, end.stderr]).toEqual([exit, expect.stringMatching(/MWARP_E_/)]);
  });

  it.each([[["ps"]], [["vm", "ls"]], [["history"]], [["lab", "status"]], [["doctor"]]])(
    "prints one JSON document for %j --json, and plain text without colour codes in a pipe",
    async (args) => {
      const json = await host.lab.mwarp.run([...args, "--json"]);
      expect(() => JSON.parse(json.stdout)).not.toThrow();
      const text = await host.lab.mwarp.run(args);
      expect(text.stdout + text.stderr).not.toContain("\u001b");
    },
  );

  it("lists every command in its help", async () => {
    const { stdout } = await host.lab.mwarp.run(["--help"]);
    for (const command of [
      "lab",
      "vm",
      "run",
      "ps",
      "exec",
      "logs",
      "rm",
      "migrate",
      "history",
      "inspect",
      "doctor",
      "demo",
    ]) {
      expect(stdout).toMatch(new RegExp(`^  ${command}\\b`, "m"));
    }
  });

  it("goes on after its daemon was killed", async () => {
    const { pid } = await host.lab.mwarp.json(DaemonStatusSchema, ["daemon", "status"]);
    process.kill(pid, "SIGKILL");
    await host.lab.mwarp.ok(["vm", "ls"]);
  });
});
