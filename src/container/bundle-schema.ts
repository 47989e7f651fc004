/** The parts of an OCI runtime configuration that mWarp reads; all others pass through. */
import * as z from "zod";
import { MwarpError } from "../errors.js";

const NamespaceSchema = z.looseObject({ type: z.string(), path: z.optional(z.string()) });
const MountSchema = z.looseObject({
  destination: z.string(),
  type: z.optional(z.string()),
  source: z.optional(z.string()),
  options: z.optional(z.array(z.string())),
});
const DeviceSchema = z.looseObject({ path: z.string() });

const BundleConfigSchema = z.looseObject({
  ociVersion: z.string().regex(/^1\./, "is not version 1 of the OCI runtime specification"),
  process: z.looseObject({
    terminal: z.optional(z.boolean()),
    args: z.array(z.string()).min(1),
    env: z.optional(z.array(z.string())),
    cwd: z.string().startsWith("/"),
  }),
  root: z.looseObject({ path: z.string() }),
  mounts: z.optional(z.array(MountSchema)),
  hooks: z.optional(z.record(z.string(), z.array(z.unknown()))),
  linux: z.looseObject({
    namespaces: z.optional(z.array(NamespaceSchema)),
    devices: z.optional(z.array(DeviceSchema)),
    resources: z.optional(z.record(z.string(), z.unknown())),
  }),
});
export type BundleConfig = z.infer<typeof BundleConfigSchema>;

/** Checks a parsed config.json; @throws MWARP_E_USAGE that names each wrong field. */
export function parseBundle(config: unknown): BundleConfig {
  const parsed = BundleConfigSchema.safeParse(config);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${path.join(".") || "(top)"}: ${message}`);
  throw new MwarpError("MWARP_E_USAGE", `config.json is not usable: ${problems.join("; ")}`, {
    hint: "It must be an OCI runtime configuration for Linux; `runc spec` writes one.",
    details: problems,
  });
}
