/** Volumes of a container that is to be made. */
import { MwarpError } from "../errors.js";
import { namedVolumes, placeProblem, type Volume } from "../protocol/container.js";

/** @throws MWARP_E_USAGE for a place where none can be, and for what is there twice */
export function checkVolumes(volumes: readonly Volume[]): void {
  const refuse = (what: string): never => {
    throw new MwarpError("MWARP_E_USAGE", what);
  };
  const places = new Set<string>();
  for (const { destination } of volumes) {
    const problem = placeProblem(destination);
    if (problem !== null) refuse(`a volume cannot be at ${destination}, which ${problem}`);
    if (places.has(destination)) refuse(`two volumes cannot be at ${destination}`);
    places.add(destination);
  }
  const names = namedVolumes(volumes).map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) refuse(`the volume ${twice} can be in one place only`);
}
