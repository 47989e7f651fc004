/** Carries out `mwarp bench report`: pages for people from a file of results. */
import path from "node:path";
import { writeHtml, writeMarkdown } from "../bench/report/index.js";
import { readResults } from "../bench/results-file.js";
import type { Session } from "./session.js";

interface ReportFiles {
  readonly html?: string;
  readonly markdown?: string;
}

/** Without any file named, the HTML page goes beside the results. */
export async function reportCommand(session: Session, name: string, files: ReportFiles): Promise<void> {
  const at = (file: string): string => path.resolve(session.io.cwd, file);
  const { records, cutOff } = readResults(at(name));
  if (cutOff) session.say(`${path.basename(name)}: the last line is cut off and left out`);
  const beside = `${name.replace(/\.jsonl$/, "")}.html`;
  const html = files.html ?? (files.markdown === undefined ? beside : undefined);
  if (html !== undefined) {
    await writeHtml(records, at(html));
    session.print(html);
  }
  if (files.markdown !== undefined) {
    await writeMarkdown(records, at(files.markdown));
    session.print(files.markdown);
  }
}
