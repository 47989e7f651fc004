/** The destination's part of a staged move: the list for the library in CRIU, and what that says (native/criu/handover.h). */
import { access, constants, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ImageFile } from "../../protocol/images.js";
import { HANDOVER_FILE, hugePageWishes, type StagedMapping } from "../../protocol/stage.js";
import { HANDOVER_LIBRARY, type MigrationPaths } from "../paths.js";
import { createParent, linkParentTasks } from "./images.js";

/** What the library says in its file, struct stage_state: u32 outcome, u32, u64 pages staged, u64 pages handed over. */
export interface Staging {
  /** 0 while it works, 1 when it is done, or a negative errno. */
  readonly outcome: number;
  readonly stagedPages: number;
  readonly handedPages: number;
}

/** Why this guest cannot stage memory; null when it can. */
export async function whyNotStaged(): Promise<string | null> {
  const library = await access(HANDOVER_LIBRARY, constants.R_OK).then(
    () => true,
    () => false,
  );
  if (!library) return `${HANDOVER_LIBRARY} is missing`;
  const overcommit = (await readFile("/proc/sys/vm/overcommit_memory", "utf8")).trim();
  // Memory that is inherited by fork counts once for each process that has it.
  return overcommit === "2" ? "the kernel counts every promise of memory (vm.overcommit_memory is 2)" : null;
}

/** The list of native/criu/stage.c. */
export function stageList(mappings: readonly StagedMapping[]): string {
  const lines = mappings.flatMap(({ nsPid, page, pages, commit, hugePages, fills }) => [
    `map ${nsPid} ${page} ${pages} ${commit === "noreserve" ? 1 : 0} ${hugePageWishes.indexOf(hugePages)}`,
    ...fills.map((fill) => `fill ${fill.page - page} ${fill.pages}`),
  ]);
  return `${lines.join("\n")}\n`;
}

/** Writes the list; answers with what a CRIU that is to stage it needs in its environment. */
export async function stageEnvironment(
  paths: MigrationPaths,
  mappings: readonly StagedMapping[],
): Promise<Readonly<Record<string, string>>> {
  await writeFile(paths.stage, stageList(mappings), { mode: 0o600 });
  return { MWARP_STAGE: paths.stage, MWARP_HANDOVER: HANDOVER_LIBRARY };
}

/** Null until the library has begun. */
export async function readStaging(paths: MigrationPaths): Promise<Staging | null> {
  const bytes = await readFile(paths.stageState).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (bytes === null || bytes.length < 24) return null;
  return {
    outcome: bytes.readInt32LE(0),
    stagedPages: Number(bytes.readBigUInt64LE(8)),
    handedPages: Number(bytes.readBigUInt64LE(16)),
  };
}

/**
 * CRIU maps private mappings before it forks only where a page may come from a parent image (page_read.pieok, criu/pagemap.c);
 * without one it leaves them to the last moment, when nothing can be put in their place. So the images get the static parent, which
 * no page refers to. A relative link: tasks look for it from another root.
 */
export async function linkParent(paths: MigrationPaths, files: readonly ImageFile[]): Promise<void> {
  if (!files.some(({ name }) => name === HANDOVER_FILE)) return;
  await createParent(paths);
  const pids = files.flatMap(({ name }) => /^pagemap-(\d+)\.img$/.exec(name)?.[1] ?? []);
  await linkParentTasks(
    paths,
    pids.map((nsPid) => ({ pid: 0, nsPid: Number(nsPid) })),
  );
  await symlink("../parent", join(paths.images, "parent"));
}
