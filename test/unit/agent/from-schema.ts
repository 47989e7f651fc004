/** JSON for a schema of the agent protocol: values that are right, and values that are right but for a part. */
import fc from "fast-check";
import type * as z from "zod/mini";

type Schema = z.core.$ZodType;

/** What anybody could put anywhere. */
export const anyJson: fc.Arbitrary<unknown> = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom(null, -1, 2 ** 53, 1e308, "", "\u0000\u001b[2J", { toString: 1 }, [[]], {
    length: 2 ** 32,
  }),
);

/** Values that the schema accepts. */
export const fromSchema = (schema: Schema): fc.Arbitrary<unknown> => build(schema, 0);

/** Values in which one part of ten may be anything else, or missing. */
export const nearSchema = (schema: Schema): fc.Arbitrary<unknown> => build(schema, 1);

function build(schema: Schema, lies: 0 | 1): fc.Arbitrary<unknown> {
  const right = exact(schema, lies);
  return fc.oneof({ weight: 10 - lies, arbitrary: right }, { weight: lies, arbitrary: anyJson });
}

function exact(schema: Schema, lies: 0 | 1): fc.Arbitrary<unknown> {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  switch (def.type) {
    case "object": {
      const parts = Object.entries(def.shape).map(([key, part]) => [key, build(part, lies)] as const);
      const required = Object.keys(def.shape).filter((key) => !isOptional(def.shape[key]!));
      return fc.record(Object.fromEntries(parts), {
        requiredKeys: lies === 0 ? required : [],
        noNullPrototype: true,
      });
    }
    case "array":
      return fc.array(build(def.element, lies), {
        minLength: limitOf(schema, "min_length") ?? 0,
        maxLength: 4,
      });
    case "nullable":
      return fc.option(build(def.innerType, lies), { nil: null });
    case "optional":
    case "default":
      return build(def.innerType, lies);
    case "string":
      return fc.oneof(...patternsOf(schema), ...(patternsOf(schema).length === 0 ? [fc.string()] : []));
    case "number": {
      const min = limitOf(schema, "greater_than") ?? Number.MIN_SAFE_INTEGER;
      const max = limitOf(schema, "less_than") ?? Number.MAX_SAFE_INTEGER;
      return fc.oneof(
        fc.integer({ min, max }),
        fc.integer({ min: Math.max(min, 0), max: Math.min(max, 9000) }),
      );
    }
    case "enum":
      return fc.constantFrom(...Object.values(def.entries));
    case "literal":
      return fc.constantFrom(...def.values);
    case "boolean":
      return fc.boolean();
    case "record":
      return fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 1 }));
    case "union":
      return fc.oneof(...def.options.map((option) => build(option, lies)));
    default:
      throw new Error(`no values for ${def.type}`);
  }
}

const isOptional = (schema: Schema): boolean =>
  ["optional", "default"].includes((schema as z.core.$ZodTypes)._zod.def.type);

const checksOf = (schema: Schema): z.core.$ZodChecks[] =>
  ((schema as z.core.$ZodTypes)._zod.def.checks ?? []) as z.core.$ZodChecks[];

function limitOf(schema: Schema, kind: "min_length" | "greater_than" | "less_than"): number | undefined {
  for (const { _zod } of checksOf(schema)) {
    const { def } = _zod;
    if (def.check === kind) return Number(def.check === "min_length" ? def.minimum : def.value);
  }
  return undefined;
}

const patternsOf = (schema: Schema): fc.Arbitrary<string>[] =>
  checksOf(schema).flatMap(({ _zod: { def } }) =>
    "pattern" in def && def.pattern instanceof RegExp ? [fc.stringMatching(def.pattern)] : [],
  );
