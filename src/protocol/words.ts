/** Words for people that come from the other side of the channel: as many as a person reads, however many were sent. */

const MAX_LINES = 200;
const MAX_LINE_LENGTH = 2000;

export const cutLine = (line: string): string =>
  line.length <= MAX_LINE_LENGTH ? line : `${line.slice(0, MAX_LINE_LENGTH)} ...`;

/** The first lines; a last one says how many more there were. */
export function cutLines(lines: readonly string[]): string[] {
  const kept = lines.slice(0, MAX_LINES).map(cutLine);
  return lines.length <= MAX_LINES ? kept : [...kept, `... and ${lines.length - MAX_LINES} more`];
}
