/** What a person needs of CRIU's log: its error lines, each with what came just before. */

const ERROR = /(?:^|\s)Error \(/;
/** Said in every dump against the static parent, once for each shared memory: it has none of them, which is as it should be. */
const NO_ERROR = /page-xfer: No parent image found/;
const MAX_LINES = 20;
const CONTEXT_LINES = 3;
const MAX_LINE_LENGTH = 400;

/**
 * The error lines of a CRIU log with up to three lines before each, in the order of the log, at most 20 lines. When
 * there are more errors than fit, the first ones stay: the later are mostly consequences. A log without errors gives
 * its last lines.
 */
export function criuErrorLines(log: string): string[] {
  const lines = log.split("\n").filter((line) => line.trim() !== "");
  const errors = lines.flatMap((line, i) => (ERROR.test(line) && !NO_ERROR.test(line) ? [i] : []));
  if (errors.length === 0) return lines.slice(-CONTEXT_LINES).map(shorten);
  const chosen = new Set(errors.slice(0, MAX_LINES));
  for (const error of errors) {
    for (let i = error - 1; i >= Math.max(0, error - CONTEXT_LINES) && chosen.size < MAX_LINES; i--)
      chosen.add(i);
  }
  return [...chosen].sort((a, b) => a - b).map((i) => shorten(lines[i]!));
}

const shorten = (line: string): string =>
  line.length <= MAX_LINE_LENGTH ? line : `${line.slice(0, MAX_LINE_LENGTH)} ...`;
