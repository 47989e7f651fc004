/** The same container, checkpointed and restored in its VM by stock runc and CRIU alone: what mWarp is held against. */
import { type Profile, removeBatch, startBatch, type World } from "./batch.js";

const PLAIN_MS = 240_000;

export interface PlainResult {
  /** "unmoved": it does not verify even where nobody has touched it. */
  readonly outcome: "restored" | "not dumped" | "not restored" | "not verified" | "unmoved";
  readonly text: string;
}

/**
 * Run in the guest as `sh -c SCRIPT sh OPTIONS`. The bundle is the one that the agent has made; the restored container's output goes to
 * a file of this script. No network is locked, as nothing comes from outside.
 */
const script = `
images=/tmp/plain; bundle=/run/mwarp-guest/containers/zdtm/bundle
rm -rf $images; mkdir -p $images
printf 'network-lock skip\\ntcp-established\\nfile-locks\\nghost-limit 67108864\\n%b' "$1" > $images/criu.conf
export CRIU_CONFIG_FILE=$images/criu.conf
options="--image-path $images --work-path $images --tcp-established --file-locks"
errors() { grep -B2 -E 'Error \\(' $images/$1.log | tail -n 8; cat $images/runc.log; }
runc --log $images/runc.log checkpoint $options zdtm >/dev/null 2>&1 || { echo "not dumped"; errors dump; exit; }
if ! runc --log $images/runc.log restore --detach $options --bundle $bundle zdtm > $images/out 2>&1 </dev/null; then
  echo "not restored"; errors restore; exit
fi
runc exec zdtm kill -USR1 1
for i in $(seq 120); do grep -q 'zdtm-init verified' $images/out && break; sleep 1; done
echo "verified"; cat $images/out
`;

/** @param options of CRIU that the program's authors give it, e.g. ["--link-remap"] */
export async function runPlain(
  world: World,
  name: string,
  profile: Profile,
  options: readonly string[],
): Promise<PlainResult> {
  try {
    await startBatch(world, [name], profile);
    const lines = configuration(options);
    const end = await world.mwarp.run(["vm", "exec", "vm-a", "--", "sh", "-c", script, "sh", lines], {
      timeoutMs: PLAIN_MS,
    });
    const [outcome, ...rest] = end.stdout.trim().split("\n");
    const text = rest.join(" ").slice(0, 2000);
    if (outcome === "not dumped" || outcome === "not restored") return { outcome, text };
    const passed = rest.includes(`${name} passed`);
    return {
      outcome: passed ? "restored" : "not verified",
      text: passed ? "" : `${text} ${end.stderr}`.trim(),
    };
  } finally {
    await removeBatch(world);
  }
}

/** "--link-remap" and "--ghost-limit 1G" as lines of CRIU's configuration file, for printf's %b. */
function configuration(options: readonly string[]): string {
  const lines: string[] = [];
  for (const word of options) {
    if (word.startsWith("--")) lines.push(word.slice(2).replace("=", " "));
    else if (lines.length > 0) lines[lines.length - 1] += ` ${word}`;
  }
  return lines.map((line) => `${line}\\n`).join("");
}
