/** lab.json: what the lab is made of. Every resource is written down before it is made, so that `down` finds all of it. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import * as z from "zod/mini";
import { labFile } from "../paths.js";
import { VmEndpointSchema } from "../vm/endpoint.js";
import { LabSettingsSchema } from "./options.js";

/** Something to give back. In lab.json in the order of making; given back in reverse. */
export const ResourceSchema = z.discriminatedUnion("kind", [
  /** 2 MiB pages added to the host's pool, which had `before`; `reserved` once that is done. */
  z.object({
    kind: z.literal("hugepages"),
    pages: z.int(),
    before: z.int(),
    reserved: z._default(z.boolean(), true),
  }),
  /** Network namespace with bridge and taps. `mounted`: /run/netns was made a mount point for it. */
  z.object({ kind: z.literal("netns"), name: z.string(), mounted: z.boolean() }),
  /** A VMM whose command line names `directory`. */
  z.object({ kind: z.literal("vm"), name: z.string(), directory: z.string() }),
  z.object({ kind: z.literal("directory"), path: z.string() }),
]);
export type Resource = z.infer<typeof ResourceSchema>;

const Verdict = z.object({ kind: z.string(), reason: z.string() });

export const LabStateSchema = z.object({
  version: z.literal(1),
  phase: z.enum(["starting", "up", "stopping"]),
  createdAt: z.string(),
  settings: LabSettingsSchema,
  image: z.nullable(z.string()),
  /** kvm or tcg, and why. */
  accelerator: z.nullable(Verdict),
  /** 4k, thp or hugetlb, and why. */
  backing: z.nullable(Verdict),
  resources: z.array(ResourceSchema),
  vms: z.array(VmEndpointSchema),
});
export type LabState = z.infer<typeof LabStateSchema>;

/** The file's JSON; undefined without a file, null when it is none. */
function readJson(file: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch {
    return null; // whoever asks learns that the file is damaged
  }
}

/** Null when there is no lab; "damaged" also for the file of another version of mWarp. */
export function readLabState(file = labFile()): LabState | "damaged" | null {
  const json = readJson(file);
  if (json === undefined) return null;
  const parsed = LabStateSchema.safeParse(json);
  return parsed.success ? parsed.data : "damaged";
}

/** What there is to give back, also by a file that is damaged elsewhere. */
export function readResources(file = labFile()): Resource[] {
  const parsed = z.object({ resources: z.array(z.unknown()) }).safeParse(readJson(file));
  const entries = parsed.success ? parsed.data.resources : [];
  return entries.flatMap((entry) => {
    const resource = ResourceSchema.safeParse(entry);
    return resource.success ? [resource.data] : [];
  });
}

export function writeLabState(state: LabState, file = labFile()): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
  const temporary = `${file}.tmp`;
  writeFileSync(temporary, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, file);
}

export function removeLabState(file = labFile()): void {
  rmSync(file, { force: true });
}
