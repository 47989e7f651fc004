/** What an image says of the process that is to run in it, as `docker run` takes it. */
import * as z from "zod/mini";
import { MwarpError } from "../../errors.js";
import { ImageHealthSchema, imageHealth, type SaidOfHealth } from "../health.js";

/** The OCI image configuration, as far as mWarp reads it itself (opencontainers/image-spec, config.md). */
export const ImageConfigSchema = z.looseObject({
  architecture: z.string(),
  os: z.string(),
  config: z._default(
    z.looseObject({
      Entrypoint: z.nullish(z.array(z.string())),
      Cmd: z.nullish(z.array(z.string())),
      Env: z.nullish(z.array(z.string())),
      Volumes: z.nullish(z.record(z.string(), z.unknown())),
      Healthcheck: z.nullish(ImageHealthSchema),
      Shell: z.nullish(z.array(z.string())),
    }),
    {},
  ),
});
export type ImageConfig = z.infer<typeof ImageConfigSchema>;

/** What umoci makes of it, with the names of users looked up in the image's own files. */
export const RuntimeConfigSchema = z.looseObject({
  process: z.looseObject({
    user: z.looseObject({
      uid: z.int(),
      gid: z.int(),
      additionalGids: z.optional(z.array(z.int())),
    }),
    env: z._default(z.array(z.string()), []),
    cwd: z.string(),
  }),
  annotations: z._default(z.record(z.string(), z.string()), {}),
});
export type RuntimeConfig = z.infer<typeof RuntimeConfigSchema>;

/** What a container of an image begins with. */
export interface ImageProcess {
  readonly argv: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids: readonly number[] };
  readonly annotations: Readonly<Record<string, string>>;
  /** Null for an image without a health check. */
  readonly health: SaidOfHealth | null;
}

const architectures: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** @throws MWARP_E_USAGE when its programs are for another processor or kernel */
export function requirePlatform({ architecture, os }: ImageConfig, arch: string = process.arch): void {
  const own = architectures[arch] ?? arch;
  if (architecture === own && os === "linux") return;
  throw new MwarpError("MWARP_E_USAGE", `the image is for ${os}/${architecture}, not for linux/${own}`, {
    hint: "Choose an image that was built for this platform.",
  });
}

const nameOf = (entry: string): string => entry.split("=", 1)[0]!;

/** Later entries replace earlier ones of the same name, in their place. */
export function mergeEnv(base: readonly string[], added: readonly string[]): string[] {
  const merged = new Map(base.map((entry) => [nameOf(entry), entry]));
  for (const entry of added) merged.set(nameOf(entry), entry);
  return [...merged.values()];
}

/**
 * @param command replaces the image's Cmd when it is not empty
 * @throws MWARP_E_USAGE when neither says what to run
 */
export function imageProcess(
  { config }: ImageConfig,
  { process, annotations }: RuntimeConfig,
  command: readonly string[],
): ImageProcess {
  const argv = [...(config.Entrypoint ?? []), ...(command.length > 0 ? command : (config.Cmd ?? []))];
  if (argv.length === 0)
    throw new MwarpError("MWARP_E_USAGE", "the image says nothing of what to run", {
      hint: "Name a command after --.",
    });
  // umoci adds a terminal's kind, which goes with a terminal.
  const said = new Set([...(config.Env ?? []).map(nameOf), "PATH", "HOME"]);
  const { uid, gid, additionalGids = [] } = process.user;
  return {
    argv,
    env: process.env.filter((entry) => said.has(nameOf(entry))),
    cwd: process.cwd,
    // A group that a process could leave would be no bar to it: Docker lists the first among the others, too (CVE-2022-36109).
    user: { uid, gid, additionalGids: [...new Set([gid, ...additionalGids])] },
    annotations,
    health: config.Healthcheck ? imageHealth(config.Healthcheck, config.Shell ?? undefined) : null,
  };
}
