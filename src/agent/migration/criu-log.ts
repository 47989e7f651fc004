/** What CRIU and the runtime said when they failed. */
import { readIfThere } from "../files.js";
import { jobOutput } from "../job.js";
import { lastLines } from "../process.js";
import { runtimeLog } from "../runtimes/runtime.js";
import { criuErrorLines } from "./criu-errors.js";

/** Everything known of a failed runtime and the CRIU under it. */
export async function failureDetails(job: string, criuLog: string): Promise<string[]> {
  return [
    ...lastLines((await readIfThere(runtimeLog(job))) ?? "", 5),
    ...lastLines(await jobOutput(job), 5),
    ...criuErrorLines((await readIfThere(criuLog)) ?? ""),
  ];
}
