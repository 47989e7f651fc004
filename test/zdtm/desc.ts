/** What CRIU's sources say about a test program in NAME.desc: a literal of Python with strings only, read as JSON. */
import * as z from "zod/mini";

const LiteralSchema = z.object({
  flavor: z._default(z.string(), "h ns uns"),
  flags: z._default(z.string(), ""),
  arch: z.optional(z.string()),
  feature: z.optional(z.string()),
  opts: z._default(z.string(), ""),
  dopts: z._default(z.string(), ""),
  ropts: z._default(z.string(), ""),
  deps: z._default(z.array(z.string()), []),
  timeout: z.optional(z.string()),
});

export interface Description {
  /** Words such as "suid" (stays root), "noauto" (not run by CRIU's own runner), "crfail" (CRIU is to refuse it). */
  readonly flags: ReadonlySet<string>;
  /** "h": in the host's namespaces, "ns": in its own, "uns": in a user namespace, too. */
  readonly flavors: ReadonlySet<string>;
  /** Processors that it is for, as uname(1) calls them; null for all. */
  readonly architectures: readonly string[] | null;
  /** Options of CRIU that it needs beside those that every run has. */
  readonly options: readonly string[];
}

/** @throws Error that shows the text when it is no such literal. */
export function parseDescription(text: string): Description {
  const json = text
    .replaceAll(/^\s*#.*$/gm, "")
    .replaceAll("'", '"')
    .replaceAll(/,(\s*[}\]])/g, "$1")
    .trim();
  // One program's description is a program itself: it asks for a device of the host.
  const parsed = json.startsWith("{") ? json : '{"flags": "noauto"}';
  let literal: z.infer<typeof LiteralSchema>;
  try {
    literal = LiteralSchema.parse(JSON.parse(parsed));
  } catch (cause) {
    throw new Error(`no description of a test program: ${text}`, { cause });
  }
  const words = (value: string): string[] => value.split(/\s+/).filter((word) => word !== "");
  return {
    flags: new Set(words(literal.flags)),
    flavors: new Set(words(literal.flavor)),
    architectures: literal.arch === undefined ? null : words(literal.arch),
    options: [...words(literal.opts), ...words(literal.dopts), ...words(literal.ropts)],
  };
}
