import { describe, expect, it } from "vitest";
import { PsSchema } from "../support/documents.js";
import { useLab } from "../support/lab.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "512M" });

describe("a container", () => {
  it("runs from a root file system, shows in ps, and says what it has to say", async () => {
    const web = await Workload.run(host.lab, "vm-a", "web", ["pattern", "16", "thp"]);
    const { containers } = await host.lab.mwarp.json(PsSchema, ["ps"]);
    expect(containers).toHaveLength(1);
    expect(containers[0]).toMatchObject({ vm: "vm-a", status: "running", migration: null });
    expect(containers[0].memory_bytes).toBeGreaterThan(16 << 20);
    expect(await web.verify()).toContain("pages=");
  });

  it("passes standard input, both outputs and the exit status of an exec through", async () => {
    const end = await host.lab.mwarp.run(
      ["exec", "web", "--", "sh", "-c", "cat; echo trouble >&2; exit 42"],
      {
        input: "a\0b\nc",
      },
    );
    expect(end).toEqual({ exit: 42, stdout: "a\0b\nc", stderr: expect.stringContaining("trouble") });
  });

  it("passes a megabyte through an exec unchanged", async () => {
    const megabyte = Array.from({ length: 65536 }, (_, i) => i.toString(16).padStart(15, "0")).join("\n");
    const out = await host.lab.mwarp.ok(["exec", "web", "--", "cat"], { input: megabyte });
    expect(out === megabyte).toBe(true);
  });

  it("has its own process, mount and network world", async () => {
    const exec = (...argv: string[]): Promise<string> => host.lab.mwarp.ok(["exec", "web", "--", ...argv]);
    expect((await exec("ps")).split("\n")[1]).toContain("pattern 16 thp");
    expect(await exec("ls", "/")).not.toContain("usr");
    expect(await exec("ip", "-o", "-4", "addr")).toMatch(/inet \d+\.\d+\.\d+\.\d+\/\d+/);
  });

  it("gives its log's last lines when asked for them", async () => {
    const lines = (await host.lab.mwarp.ok(["logs", "web", "--tail", "1"])).trim().split("\n");
    expect(lines).toHaveLength(1);
  });

  it("is refused under a name that is taken, in any VM", async () => {
    const args = [
      "run",
      "--vm",
      "vm-b",
      "--name",
      "web",
      "--rootfs",
      host.lab.rootfs,
      "--",
      "pattern",
      "1",
      "thp",
    ];
    const { exit, error } = await host.lab.mwarp.refusal(args);
    expect([exit, error.code]).toEqual([5, "MWARP_E_NAME_TAKEN"]);
  });

  it("that ended stays in the list with its exit code until it is removed", async () => {
    await host.lab.mwarp.ok([
      "run",
      "--vm",
      "vm-b",
      "--name",
      "short",
      "--rootfs",
      host.lab.rootfs,
      "--",
      "sh",
      "-c",
      "echo bye; exit 3",
    ]);
    await expect
      .poll(
        async () => {
          const { containers } = await host.lab.mwarp.json(PsSchema, ["ps"]);
          const short = containers.find(({ name }) => name === "short");
          return [short?.status, short?.exit_code];
        },
        { timeout: 20_000 },
      )
      .toEqual(["stopped", 3]);
    expect(await host.lab.mwarp.ok(["logs", "short"])).toContain("bye");
    await host.lab.mwarp.ok(["rm", "short"]);
  });

  it("that runs is removed only with -f, and leaves nothing in the guest", async () => {
    const refused = await host.lab.mwarp.refusal(["rm", "web"]);
    expect(refused.exit).not.toBe(0);
    await host.lab.mwarp.ok(["rm", "-f", "web"]);
    const { containers } = await host.lab.mwarp.json(PsSchema, ["ps"]);
    expect(containers).toEqual([]);
    expect(
      await host.lab.guest("vm-a", "sh", "-c", "ps ax; runc list; ip -o link; ip netns list"),
    ).not.toMatch(/pattern|web/);
  });
});
