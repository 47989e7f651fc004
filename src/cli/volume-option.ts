/** `--volume` of `mwarp run`, as people write it. */
import { InvalidArgumentError } from "commander";
import { placeProblem, type Volume } from "../protocol/container.js";
import { parseName } from "./parse.js";

const WRITE = "Write NAME:/path[:ro], or /path/in/vm:/path:shared[,ro].";

/** Collected over repeated options. A directory of the VM must be said to be shared: whoever forgets that would lose it in a move. */
export function collectVolumes(text: string, earlier: readonly Volume[] = []): readonly Volume[] {
  const [source = "", destination = "", words, ...rest] = text.split(":");
  const flags = words === undefined ? [] : words.split(",");
  const known = flags.every((flag) => ["ro", "rw", "shared"].includes(flag));
  if (source === "" || rest.length > 0 || !known) throw new InvalidArgumentError(WRITE);
  const problem = placeProblem(destination);
  if (problem !== null)
    throw new InvalidArgumentError(
      `A volume cannot be at ${destination || "no place"}, which ${problem}. ${WRITE}`,
    );
  if (earlier.some((volume) => volume.destination === destination))
    throw new InvalidArgumentError(`Two volumes cannot be at ${destination}.`);
  const common = { destination, readOnly: flags.includes("ro") };
  const shared = flags.includes("shared");
  if (source.startsWith("/")) {
    if (!shared)
      throw new InvalidArgumentError(
        `A directory of the VM does not move. If the other VMs have it, too, write ${source}:${destination}:shared; ` +
          `a volume that moves with the container has a name: NAME:${destination}.`,
      );
    return [...earlier, { kind: "shared", directory: source, ...common }];
  }
  if (shared) throw new InvalidArgumentError("A named volume is the container's own and cannot be shared.");
  const name = parseName(source);
  if (earlier.some((volume) => volume.kind === "named" && volume.name === name))
    throw new InvalidArgumentError(`The volume ${name} can be in one place only.`);
  return [...earlier, { kind: "named", name, ...common }];
}
