/** Tells the host of containers that ended. Their shims write it down; a look now and then finds it, after a restart too. */
import { containerNames, heldBy } from "./containers/store.js";
import { readNumber } from "./files.js";
import { log } from "./log.js";
import { containerPaths } from "./paths.js";

const LOOK_MS = 500;

export function watchExits(tell: (name: string, exitCode: number) => void): void {
  const told = new Map<string, number>();
  const look = async () => {
    const names = new Set(await containerNames());
    for (const name of told.keys()) if (!names.has(name)) told.delete(name);
    for (const name of names) {
      const exitCode = await readNumber(containerPaths(name).exit);
      if (exitCode === null) told.delete(name);
      // A migration ends the source's tasks itself.
      else if (!told.has(name) && (await heldBy(name)) === null) {
        told.set(name, exitCode);
        tell(name, exitCode);
      }
    }
  };
  setInterval(() => {
    look().catch((error: unknown) => log("warn", `looking for ended containers: ${String(error)}`));
  }, LOOK_MS);
}
