/**
 * Root file systems of the applications that the guest image has not, kept in the lab's cache by a hash of what decides what is in
 * them, as the guest image is. The packages themselves go again: with the JDK they are 700 MiB.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Contents, cutRootfs } from "../../../src/lab/container-rootfs.js";
import { ensurePackages } from "../../../src/lab/packages.js";
import { withLock } from "../../../src/lock.js";
import { cacheDir } from "../../../src/paths.js";
import { projectRoot } from "../mwarp.js";
import { type ApplicationName, contents, java } from "./contents.js";
import { packages, runIn, suite, unpackPackages } from "./packages.js";

/** Building them, download included, where another file of tests is at work. */
export const ROOTFS_MS = 25 * 60_000;
const VERSION = 1;
const names = Object.keys(contents) as ApplicationName[];
type Directories = Readonly<Record<ApplicationName, string>>;
type Loose = Partial<Contents> & {
  readonly files?: Readonly<Record<string, { readonly text: string } | { readonly from: string }>>;
  readonly directories?: readonly string[];
};

const own = (file: string): string => join(projectRoot, "test/applications", file);
const source = readFileSync(own("CountServer.java"), "utf8");

const textOf = (file: { readonly text: string } | { readonly from: string }): string =>
  "text" in file ? file.text : readFileSync(own(file.from), "utf8");

function recipeHash(): string {
  const files = names.map((name) => Object.values((contents[name] as Loose).files ?? {}).map(textOf));
  const recipe = JSON.stringify({ version: VERSION, suite, packages, contents, files, source });
  return createHash("sha256").update(recipe).digest("hex").slice(0, 12);
}

/** The root file systems by name, built when they are not in the cache. @throws with mmdebstrap's, the compiler's or the loader's words */
export async function applicationRootfs(): Promise<Directories> {
  const cache = cacheDir();
  const directory = join(cache, `applications-${recipeHash()}`);
  const directories = Object.fromEntries(names.map((name) => [name, join(directory, name)])) as Directories;
  if (existsSync(directory)) return directories;
  await ensurePackages();
  mkdirSync(cache, { recursive: true });
  const lock = {
    signal: undefined,
    waitMs: ROOTFS_MS,
    busy: "another process builds them",
    onWait: () => undefined,
  };
  return withLock("applications", cache, lock, async () => {
    if (existsSync(directory)) return directories;
    // What others than the holder of the lock began is of builders that were killed; what is finished is of older recipes.
    for (const name of readdirSync(cache).filter((entry) => entry.startsWith("applications-")))
      rmSync(join(cache, name), { recursive: true });
    const work = join(cache, "applications-build");
    mkdirSync(work);
    try {
      const root = join(work, "root");
      await unpackPackages(root);
      await makeJava(root);
      for (const name of names) await make(root, join(work, name), contents[name]);
      rmSync(root, { recursive: true });
      renameSync(work, directory);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
    return directories;
  });
}

/** A runtime of the modules that the server uses, and the server's class. */
async function makeJava(root: string): Promise<void> {
  const jdk = "/usr/lib/jvm/java-21-openjdk-amd64/bin";
  const small = [
    "--strip-java-debug-attributes",
    "--no-header-files",
    "--no-man-pages",
    "--compress",
    "zip-6",
  ];
  mkdirSync(join(root, dirname(java.runtime)), { recursive: true });
  await runIn(root, [`${jdk}/jlink`, "--add-modules", "java.base", ...small, "--output", java.runtime]);
  writeFileSync(join(root, "tmp/CountServer.java"), source);
  await runIn(root, [`${jdk}/javac`, "-d", java.classes, "/tmp/CountServer.java"]);
}

async function make(root: string, target: string, what: Loose): Promise<void> {
  const { programs = [], trees = [], without = [], files = {}, directories = [] } = what;
  await cutRootfs(root, target, { programs, trees, without, prefix: "" }, undefined);
  for (const [path, file] of Object.entries(files)) {
    mkdirSync(dirname(join(target, path)), { recursive: true });
    writeFileSync(join(target, path), textOf(file));
  }
  for (const path of directories) mkdirSync(join(target, path), { recursive: true });
}
