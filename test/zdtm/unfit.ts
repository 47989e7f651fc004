/** Which of CRIU's test programs say nothing about a move, and why. */
import type { Program } from "./programs.js";

/** What is compared with after the move, in another file system, cannot be the same. */
const inode = "compares a file's inode number, or its device, which no copy of a file system keeps";

/** Connections are what a move is to keep. */
const closes = "wants its connections closed (--tcp-close), which a move keeps";

/** Found by running them; each by its source. */
const unfit: Readonly<Record<string, string>> = {
  "socket-dump-tcp-close": closes,
  "socket-tcp-close0": closes,
  unlink_fstat03: inode,
};

/** Null for a program that is to be moved. */
export function whyUnfit({ name, file, description }: Program): string | null {
  if (description.flags.has("noauto")) return "left out by CRIU's own runner (noauto)";
  if (description.architectures?.includes("x86_64") === false)
    return `for ${description.architectures.join(", ")} only`;
  if (file === null) return "needs development packages that nothing else here needs";
  return unfit[name] ?? null;
}
