/** What CRIU and runc said when they failed. */
import { join } from "node:path";
import { readIfThere } from "../files.js";
import { jobOutput } from "../job.js";
import { lastLines } from "../process.js";
import { criuErrorLines } from "./criu-errors.js";

/** Everything known of a failed runc and the CRIU under it. */
export async function failureDetails(job: string, criuLog: string): Promise<string[]> {
  return [
    ...lastLines((await readIfThere(join(job, "runc.log"))) ?? "", 5),
    ...lastLines(await jobOutput(job), 5),
    ...criuErrorLines((await readIfThere(criuLog)) ?? ""),
  ];
}
