/** All of the programs, in as few containers as will do: a batch that stops is cut in halves until one program stands alone. */
import type { BatchResult, Profile } from "./batch.js";
import type { PlainResult } from "./plain.js";
import type { Program } from "./programs.js";
import type { ProgramResult } from "./results.js";
import { whyUnfit } from "./unfit.js";

const BATCH = 8;

/** What the suite does with containers; the tests of the suite itself have their own. */
export interface Bench {
  run(names: readonly string[], profile: Profile): Promise<BatchResult>;
  plain(name: string, profile: Profile, options: readonly string[]): Promise<PlainResult>;
}

interface Batch {
  readonly names: readonly string[];
  readonly profile: Profile;
}

/** What a program came to that is settled; the others go again. */
type Settled = Pick<ProgramResult, "name" | "outcome" | "text">;

/**
 * Runs all `programs`.
 * @param done is told of each when it is settled
 */
export async function runSuite(
  bench: Bench,
  programs: readonly Program[],
  done: (result: ProgramResult) => void,
): Promise<void> {
  const byName = new Map(programs.map((program) => [program.name, program]));
  const fit: Program[] = [];
  for (const program of programs) {
    const reason = whyUnfit(program);
    if (reason === null) fit.push(program);
    else done({ name: program.name, outcome: "unfit", text: reason, profile: "ordinary", plain: null });
  }
  const needy: string[] = [];
  const work = together(fit, "ordinary");
  for (;;) {
    // Once there is nothing else to do, so that there are as many as will be.
    if (work.length === 0)
      work.push(
        ...together(
          needy.splice(0).map((name) => byName.get(name)!),
          "privileged",
        ),
      );
    const batch = work.shift();
    if (batch === undefined) return;
    const after = afterBatch(batch, await bench.run(batch.names, batch.profile), byName);
    for (const settled of after.settled) {
      const asked = settled.outcome === "failed" || settled.outcome === "refused";
      const { options } = byName.get(settled.name)!.description;
      const plain = asked ? await bench.plain(settled.name, batch.profile, options) : null;
      done({ ...settled, profile: batch.profile, plain });
    }
    needy.push(...after.needy);
    work.unshift(...after.again);
  }
}

/** Who is settled by what became of a batch, who goes again, and who needs a container that may do more. */
function afterBatch({ names, profile }: Batch, result: BatchResult, programs: ReadonlyMap<string, Program>) {
  const verdicts = new Map(result.verdicts.map((verdict) => [verdict.name, verdict]));
  const settled: Settled[] = [];
  const again: Batch[] = [];
  const needy: string[] = [];
  const left: string[] = [];
  const alone = (name: string): Batch => ({ names: [name], profile });
  for (const name of names) {
    const { outcome, text } = verdicts.get(name) ?? { outcome: null, text: "no verdict" };
    if (outcome === "passed") settled.push({ name, outcome: "moved", text: "" });
    else if (outcome !== "unstarted") left.push(name);
    else if (
      profile === "ordinary" &&
      (names.length === 1 || programs.get(name)!.description.flags.has("suid"))
    )
      needy.push(name);
    else if (names.length === 1)
      settled.push({ name, outcome: "unfit", text: `does not start in a container: ${text}` });
    // Another may have had its port, or its name.
    else again.push(alone(name));
  }
  const [name] = left;
  if (name !== undefined && left.length === 1 && names.length === 1) {
    const { stopped } = result;
    const verdict = `verification: ${verdicts.get(name)?.text ?? "no verdict"}`;
    settled.push(
      stopped === null
        ? { name, outcome: "failed", text: verdict }
        : { name, outcome: stopped.outcome, text: stopped.text },
    );
  } else if (result.stopped === null || left.length === 1) again.push(...left.map(alone));
  // Nobody knows which it was.
  else {
    const half = left.length >> 1;
    again.push({ names: left.slice(0, half), profile }, { names: left.slice(half), profile });
  }
  return { settled, again: again.filter((batch) => batch.names.length > 0), needy };
}

/** Those that CRIU is to refuse are each alone; the others are together as they come. */
function together(programs: readonly Program[], profile: Profile): Batch[] {
  const lonely = ({ description: { flags } }: Program): boolean => flags.has("crfail");
  const names = programs.filter((program) => !lonely(program)).map(({ name }) => name);
  const batches: Batch[] = [];
  for (let at = 0; at < names.length; at += BATCH)
    batches.push({ names: names.slice(at, at + BATCH), profile });
  return [...batches, ...programs.filter(lonely).map(({ name }) => ({ names: [name], profile }))];
}
