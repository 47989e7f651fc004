import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmod,
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { requireCommand } from "../../../src/container/command.js";
import { archiveRootfs } from "../../../src/container/rootfs.js";

let base: string;
let root: string;
let store: string;
const signal = new AbortController().signal;

beforeEach(async () => {
  base = await mkdtemp(path.join(tmpdir(), "mwarp-rootfs-"));
  root = path.join(base, "root");
  store = path.join(base, "state", "rootfs");
  await makeTree(root);
});
afterEach(() => rm(base, { recursive: true, force: true }));

/** A small tree as Debian lays it out: bin is a link, sh leads to a program by an absolute link. */
async function makeTree(at: string): Promise<void> {
  await mkdir(path.join(at, "usr/bin"), { recursive: true });
  await mkdir(path.join(at, "etc"));
  await writeFile(path.join(at, "usr/bin/dash"), "#!", { mode: 0o755 });
  await writeFile(path.join(at, "etc/passwd"), "root");
  await symlink("usr/bin", path.join(at, "bin"));
  await symlink("/bin/dash", path.join(at, "usr/bin/sh"));
  await link(path.join(at, "etc/passwd"), path.join(at, "etc/passwd-"));
  const then = new Date(1_700_000_000_000);
  for (const name of ["etc", "etc/passwd", "usr/bin/dash", "usr/bin", "usr", ""]) {
    await utimes(path.join(at, name), then, then);
  }
  execFileSync("touch", [
    "-h",
    "-d",
    "@1700000000",
    path.join(at, "bin"),
    path.join(at, "usr/bin/sh"),
    at,
    path.join(at, "usr/bin"),
  ]);
}

const usage = (text: string) =>
  expect.objectContaining({ code: "MWARP_E_USAGE", message: expect.stringContaining(text) });

describe("archiveRootfs", () => {
  it("stores an archive under the digest of its bytes and leaves nothing else", async () => {
    const { digest, file, bytes } = await archiveRootfs(root, store, signal);
    const contents = await readFile(file);
    expect(createHash("sha256").update(contents).digest("hex")).toBe(digest);
    expect(contents.length).toBe(bytes);
    expect(await readdir(store)).toEqual([`${digest}.tar`]);
    expect(execFileSync("tar", ["-tf", file]).toString().split("\n").sort()).toContain("./usr/bin/sh");
  });

  it("gives equal trees equal digests, whatever their place and order of creation", async () => {
    const other = path.join(base, "elsewhere");
    await makeTree(other);
    const first = await archiveRootfs(root, store, signal);
    expect((await archiveRootfs(other, store, signal)).digest).toBe(first.digest);
    expect((await archiveRootfs(root, store, signal)).file).toBe(first.file);
  });

  it("gives another digest when a file's contents, mode or time differ", async () => {
    const digests = [(await archiveRootfs(root, store, signal)).digest];
    await chmod(path.join(root, "etc/passwd"), 0o600);
    digests.push((await archiveRootfs(root, store, signal)).digest);
    await utimes(path.join(root, "etc/passwd"), 5, 5);
    digests.push((await archiveRootfs(root, store, signal)).digest);
    expect(new Set(digests).size).toBe(3);
  });

  it("refuses what is no directory, missing or empty", async () => {
    const cases = [
      [path.join(root, "etc/passwd"), "is not a directory"],
      [path.join(root, "nowhere"), "cannot be read"],
      [path.join(base, "empty"), "is empty"],
    ] as const;
    await mkdir(path.join(base, "empty"));
    for (const [directory, problem] of cases) {
      await expect(archiveRootfs(directory, store, signal)).rejects.toThrow(usage(problem));
    }
  });

  it("leaves nothing behind when it is cancelled", async () => {
    await expect(archiveRootfs(root, store, AbortSignal.abort())).rejects.toThrow(
      expect.objectContaining({ code: "MWARP_E_CANCELLED" }),
    );
    expect(await readdir(store)).toEqual([]);
  });
});

describe("requireCommand", () => {
  const at = { env: [], cwd: "/" };

  it("finds a program by PATH and through links that are absolute inside the root", async () => {
    expect(await requireCommand(root, "sh", at)).toBe("/usr/bin/sh");
    expect(await requireCommand(root, "/bin/sh", at)).toBe("/bin/sh");
    expect(await requireCommand(root, "./dash", { env: [], cwd: "/bin" })).toBe("/bin/dash");
  });

  it("searches the last PATH that the environment sets", async () => {
    const env = ["PATH=/bin", "PATH=/etc"];
    await expect(requireCommand(root, "sh", { env, cwd: "/" })).rejects.toThrow(usage('no program "sh"'));
  });

  it("does not leave the root by .. or by a link to the host", async () => {
    await symlink("../../../../../../bin/sh", path.join(root, "etc/up"));
    expect(await requireCommand(root, "/etc/up", at)).toBe("/etc/up");
    await symlink("/usr/bin/env", path.join(root, "etc/host"));
    await expect(requireCommand(root, "/etc/host", at)).rejects.toThrow(usage("no program"));
  });

  it.each(["/etc/passwd", "/etc", "/bin/missing", "missing", "", "/etc/passwd/x", "/etc/loop"])(
    "refuses %j, which is no program",
    async (argv0) => {
      await symlink("loop", path.join(root, "etc/loop"));
      await expect(requireCommand(root, argv0, at)).rejects.toThrow(usage("no program"));
    },
  );
});
