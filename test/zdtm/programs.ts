/** CRIU's test programs: which there are, how each is built and started, as the Makefile of their sources says. */
import { existsSync, readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { run } from "../../src/lab/exec.js";
import { type Description, parseDescription } from "./desc.js";
import { alone, zdtmSources } from "./sources.js";

const BUILD_MS = 1_800_000;

export interface Program {
  readonly name: string;
  readonly description: Description;
  /** Without the program itself. */
  readonly arguments: readonly string[];
  /** Null when it cannot be built here. */
  readonly file: string | null;
}

/** Libraries that some programs ask pkg-config for are development packages that nothing else here needs. */
const make = (directory: string, ...words: string[]): string[] => [
  ...["make", "--directory", directory, "--no-print-directory", "PKG_CONFIG=false"],
  ...words,
];

/**
 * The named programs, or all, built where they are not yet.
 * @throws MWARP_E_LAB with the last words of apt, make or gcc.
 */
export function buildPrograms(names?: readonly string[]): Promise<Program[]> {
  return alone(async () => {
    const sources = await zdtmSources();
    const directory = path.join(sources, "static");
    const wanted = names ?? (await everyName(directory));
    const missing = wanted.filter((name) => !existsSync(path.join(directory, name)));
    if (missing.length > 0) await build(sources, missing);
    const commands = await startCommands(directory, wanted);
    return wanted.map((name): Program => {
      const [description, file] = [path.join(directory, `${name}.desc`), path.join(directory, name)];
      return {
        name,
        description: parseDescription(existsSync(description) ? readFileSync(description, "utf8") : "{}"),
        arguments: commands.get(name) ?? [],
        file: existsSync(file) ? file : null,
      };
    });
  });
}

async function everyName(directory: string): Promise<string[]> {
  const listed = await run(make(directory, "--eval=names: ; @echo $(TST)", "names"));
  return listed.trim().split(/\s+/);
}

/** Goes on after one that cannot be built: it is missing afterwards. */
async function build(sources: string, names: readonly string[]): Promise<void> {
  const parallel = `--jobs=${os.availableParallelism()}`;
  await run(make(path.join(sources, "lib"), parallel, "libzdtmtst.a"), { timeoutMs: BUILD_MS });
  const command = make(path.join(sources, "static"), parallel, "--keep-going", ...names);
  await run(["sh", "-c", '"$@" || true', "sh", ...command], { timeoutMs: BUILD_MS });
}

/** What `make NAME.pid` would run: "./NAME --pidfile=NAME.pid --outfile=NAME.out ...". */
async function startCommands(directory: string, names: readonly string[]): Promise<Map<string, string[]>> {
  const goals = names.map((name) => `${name}.pid`);
  const printed = await run(make(directory, "--dry-run", "--keep-going", ...goals));
  return new Map(
    printed.split("\n").flatMap((line): [string, string[]][] => {
      const [program = "", ...words] = line.split(" ");
      return program.startsWith("./") && line.includes("--outfile=") ? [[program.slice(2), words]] : [];
    }),
  );
}
