/** 2 MiB pages of the host for what is measured without a lab, given back also after a crash. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod/mini";
import { MwarpError } from "../errors.js";
import { readHostMemory, releasePages, reservePages } from "../lab/hugepages.js";
import type { Place } from "./lab.js";

/** For two memories of 128 MiB, and for the measurement of the host's costs. */
const HUGE_PAGES = 256;

const ReservedSchema = z.object({ pages: z.int(), before: z.int() });
const noteFile = (place: Place): string => join(place.stateDir, "hugepages.json");

/** Runs `work` with 2 MiB pages in the host's pool. @throws MWARP_E_LAB when the host cannot make them */
export async function withHugePages<T>(place: Place, work: () => Promise<T>): Promise<T> {
  const before = readHostMemory().pool?.total;
  if (before === undefined) throw new MwarpError("MWARP_E_LAB", "the host kernel has no 2 MiB pages");
  mkdirSync(place.stateDir, { recursive: true });
  // Written down first: who finds it after a crash gives the pages back.
  writeFileSync(noteFile(place), JSON.stringify({ pages: HUGE_PAGES, before }));
  let reserved = false;
  try {
    await reservePages(HUGE_PAGES);
    reserved = true;
    return await work();
  } finally {
    if (reserved) await releasePages({ pages: HUGE_PAGES, before, reserved });
    rmSync(noteFile(place), { force: true });
  }
}

/** Gives back what a benchmark that was killed had reserved. */
export async function releaseLeftPages(place: Place): Promise<void> {
  let text: string;
  try {
    text = readFileSync(noteFile(place), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const note = ReservedSchema.safeParse(parseJson(text));
  // A note that was cut off was not followed by a reservation.
  if (note.success) await releasePages({ ...note.data, reserved: false });
  rmSync(noteFile(place));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
