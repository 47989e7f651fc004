/** skopeo and umoci, which know everything about images that mWarp does not have to. */
import { execFile } from "node:child_process";
import { MwarpError } from "../../errors.js";

/** Of configurations and lists of names. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/**
 * Output of a tool.
 * @throws MWARP_E_USAGE with what the tool says is wrong, or when it is not installed; MWARP_E_CANCELLED.
 */
export function runTool(
  [program, ...args]: readonly [string, ...string[]],
  signal: AbortSignal,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, LC_ALL: "C" };
    execFile(program, args, { env, signal, maxBuffer: MAX_OUTPUT_BYTES }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (signal.aborted)
        reject(new MwarpError("MWARP_E_CANCELLED", "unpacking the image was cancelled"));
      else if (error.code === "ENOENT") reject(missing(program));
      else reject(new MwarpError("MWARP_E_USAGE", lastWord(program, stderr), { cause: error }));
    });
  });
}

const missing = (program: string): MwarpError =>
  new MwarpError("MWARP_E_USAGE", `images need ${program}, which is not installed`, {
    hint: "Install it: apt-get install --no-install-recommends skopeo umoci",
  });

/** Both tools log; what went wrong is the message of the last line that is one of an error. */
export function lastWord(program: string, stderr: string): string {
  const lines = stderr.trim().split("\n");
  const fatal =
    lines.findLast((line) => /level=(fatal|error)|^\s*(⨯|error)/.test(line)) ?? lines.at(-1) ?? "";
  const message = /msg="((?:[^"\\]|\\.)*)"/.exec(fatal)?.[1]?.replaceAll('\\"', '"') ?? fatal.trim();
  return `${program}: ${message || "failed without a word"}`;
}
