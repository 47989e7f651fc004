/**
 * Parses what comes from the other side of the agent channel, and stops at the first thing that is wrong with it.
 *
 * zod goes on and collects them all: on one frame that is an array of a million wrong things it spends twenty seconds
 * and gigabytes, and then fails with a RangeError. What is right as a whole it parses in a moment.
 */
import * as z from "zod/mini";

export type Checked<T> = { readonly data: T } | { readonly problem: string };

export function checked<S extends z.ZodMiniType>(schema: S, json: unknown): Checked<z.output<S>> {
  const problem = firstProblem(schema, json, []);
  if (problem !== null) return { problem };
  const result = schema.safeParse(json);
  return result.success ? { data: result.data } : { problem: problemOf(result.error.issues, []) };
}

type Path = readonly PropertyKey[];

/** Null when each part by itself is right; what holds for several parts together is left to the whole schema. */
function firstProblem(schema: z.core.$ZodType, json: unknown, path: Path): string | null {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if (def.type === "array" && Array.isArray(json)) {
    for (const [index, item] of json.entries()) {
      const problem = firstProblem(def.element, item, [...path, index]);
      if (problem !== null) return problem;
    }
    return null;
  }
  if (def.type === "object" && isRecord(json)) {
    for (const [key, inner] of Object.entries(def.shape)) {
      const problem = firstProblem(inner, json[key], [...path, key]);
      if (problem !== null) return problem;
    }
    return null;
  }
  if ((def.type === "nullable" && json !== null) || (def.type === "optional" && json !== undefined))
    return firstProblem(def.innerType, json, path);
  const result = z.safeParse(schema, json);
  return result.success ? null : problemOf(result.error.issues, path);
}

const isRecord = (json: unknown): json is Readonly<Record<string, unknown>> =>
  typeof json === "object" && json !== null && !Array.isArray(json);

function problemOf(issues: readonly z.core.$ZodIssue[], path: Path): string {
  const [issue] = issues;
  const place = [...path, ...(issue?.path ?? [])].map(String).join(".");
  const message = issue?.message ?? "not as expected";
  return place === "" ? message : `${place}: ${message}`;
}
