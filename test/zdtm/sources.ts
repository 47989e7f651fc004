/** CRIU's sources of the suite that the guests run, through apt, which checks them; never part of this tree. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { run } from "../../src/lab/exec.js";
import { guestSuite } from "../../src/lab/image.js";
import { withLock } from "../../src/lock.js";
import { cacheDir } from "../../src/paths.js";

const DEFAULT_MIRROR = "http://deb.debian.org/debian";
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const FETCH_MS = 180_000;
const LOCK_MS = 900_000;

/** Runs `action` while nobody else fetches or builds there. */
export function alone<T>(action: () => Promise<T>): Promise<T> {
  mkdirSync(cacheDir(), { recursive: true });
  const options = { waitMs: LOCK_MS, busy: "another process builds CRIU's test programs" };
  return withLock("zdtm", cacheDir(), options, action);
}

/**
 * The directory test/zdtm of CRIU's sources, fetched when it is not in the cache. To be called within `alone`.
 * @throws MWARP_E_LAB with apt's last lines.
 */
export async function zdtmSources(): Promise<string> {
  const directory = path.join(cacheDir(), `zdtm-${guestSuite}`);
  const sources = path.join(directory, "test/zdtm");
  if (existsSync(sources)) return sources;
  const work = `${directory}.part`;
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  try {
    const archive = await fetchArchive(work);
    const unpack = ["tar", "--extract", "--file", archive, "--directory", work, "--strip-components=1"];
    await run([...unpack, "--wildcards", "*/test/zdtm"]);
    for (const name of ["apt", "download"]) rmSync(path.join(work, name), { recursive: true });
    renameSync(work, directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return sources;
}

/** The archive of the sources as their authors have published it; apt knows its checksum from the signed lists of the suite. */
async function fetchArchive(work: string): Promise<string> {
  const apt = path.join(work, "apt");
  const download = path.join(work, "download");
  for (const name of ["lists/partial", "cache/archives/partial"])
    mkdirSync(path.join(apt, name), { recursive: true });
  mkdirSync(download);
  const mirror = process.env.MWARP_DEBIAN_MIRROR ?? DEFAULT_MIRROR;
  const list = path.join(apt, "sources.list");
  writeFileSync(list, `deb-src [signed-by=${KEYRING}] ${mirror} ${guestSuite} main\n`);
  const settings = {
    "Dir::Etc::SourceList": list,
    "Dir::Etc::SourceParts": "-",
    "Dir::State::Lists": path.join(apt, "lists"),
    "Dir::Cache": path.join(apt, "cache"),
    "APT::Sandbox::User": "root",
  };
  const options = Object.entries(settings).map(([name, value]) => `--option=${name}=${value}`);
  await run(["apt-get", ...options, "--quiet", "update"], { timeoutMs: FETCH_MS });
  const get = ["apt-get", ...options, "--quiet", "--tar-only", "source", "criu"].join(" ");
  await run(["sh", "-ec", `cd ${download}; ${get}`], { timeoutMs: FETCH_MS });
  const [archive] = readdirSync(download).filter((name) => name.includes(".orig.tar"));
  if (archive === undefined) throw new Error(`apt has left no archive of CRIU's sources in ${download}`);
  return path.join(download, archive);
}
