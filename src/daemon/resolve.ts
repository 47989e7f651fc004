/** Names as people type them: the whole name, or a prefix of the id that fits one only. */
import { MwarpError } from "../errors.js";

/** Shortest id prefix taken, so that a mistyped name does not hit an id by chance. */
export const MIN_PREFIX = 4;

/** The item named exactly, else the only one whose id starts with `wanted`; undefined when none does. @throws MWARP_E_USAGE when several do */
export function pick<T>(
  items: readonly T[],
  wanted: string,
  keys: { name: (item: T) => string; id: (item: T) => string },
): T | undefined {
  const named = items.find((item) => keys.name(item) === wanted || keys.id(item) === wanted);
  if (named !== undefined) return named;
  if (wanted.length < MIN_PREFIX) return undefined;
  const matches = items.filter((item) => keys.id(item).startsWith(wanted));
  if (matches.length > 1)
    throw new MwarpError("MWARP_E_USAGE", `"${wanted}" fits ${matches.length} ids`, {
      hint: "Type more of the id, or the name.",
      details: matches.map((item) => `${keys.id(item)} ${keys.name(item)}`),
    });
  return matches[0];
}
