/** Which code runs: the package version and a digest of the code, so that a CLI never drives a daemon of another build. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { packageRoot } from "../paths.js";

/** dist/ when built, src/ under a test runner. */
const codeDirectory = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

export interface Build {
  readonly version: string;
  /** 12 hex digits. */
  readonly build: string;
}

let known: Build | undefined;

/** The build on disk when first asked; a daemon asks at its start. About 10 ms, then cached. */
export function currentBuild(): Build {
  known ??= { version: packageVersion(), build: digestOf(codeDirectory) };
  return known;
}

/** `version` of package.json. */
export function packageVersion(): string {
  const text = readFileSync(path.join(packageRoot(), "package.json"), "utf8");
  const parsed: unknown = JSON.parse(text);
  if (
    typeof parsed === "object" &&
    parsed !== null &&
    "version" in parsed &&
    typeof parsed.version === "string"
  )
    return parsed.version;
  throw new Error("package.json names no version");
}

function digestOf(directory: string): string {
  const hash = createHash("sha256");
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(?:js|mjs|ts)$/.test(name) && !name.startsWith(`test${path.sep}`))
    .sort();
  for (const name of names) hash.update(`${name}\0`).update(readFileSync(path.join(directory, name)));
  return hash.digest("hex").slice(0, 12);
}
