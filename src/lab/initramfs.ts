/** The initramfs of the lab's guests, made at each `lab up`: a new agent needs no new image. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MwarpError } from "../errors.js";
import { distFile } from "../paths.js";
import { CpioArchive } from "./cpio.js";
import { bootModules, guestPaths, initramfsInit } from "./guest-files.js";
import { type GuestImage, overlayFiles } from "./image.js";

interface PayloadFile {
  /** Path in the guest. */
  readonly path: string;
  /** File of this package. */
  readonly source: string;
  readonly mode: number;
}

/** What mWarp brings into a guest, besides the start-up scripts. */
export const payloadFiles = (): readonly PayloadFile[] => [
  { path: guestPaths.agent, source: distFile("agent.mjs"), mode: 0o644 },
  { path: guestPaths.helper, source: distFile("native", "mwarp-guest"), mode: 0o755 },
  { path: guestPaths.handover, source: distFile("native", "libmwarp-handover.so"), mode: 0o644 },
];

/** @throws MWARP_E_LAB naming what has not been built. */
export function buildInitramfs(image: GuestImage, target: string): void {
  const archive = new CpioArchive();
  for (const directory of ["dev", "proc", "sys", "lower", "upper", "new"]) archive.directory(directory);
  archive.file("init", initramfsInit, 0o755).file("bin/busybox", readFileSync(image.busybox), 0o755);
  for (const name of bootModules)
    archive.file(`modules/${name}.ko`, readFileSync(join(image.moduleDirectory, `${name}.ko`)));
  for (const { path, contents, mode } of overlayFiles()) archive.file(`payload/${path}`, contents, mode);
  for (const { path, source, mode } of payloadFiles()) {
    if (!existsSync(source)) {
      throw new MwarpError("MWARP_E_LAB", `${source} is missing`, { hint: "Build mWarp first: make build." });
    }
    archive.file(`payload/${path}`, readFileSync(source), mode);
  }
  writeFileSync(target, archive.toBuffer());
}
