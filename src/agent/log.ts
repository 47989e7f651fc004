/** The agent's log: a file in the guest, and events for whoever is connected. */
import { appendFileSync } from "node:fs";

export type LogLevel = "debug" | "info" | "warn" | "error";
type Listener = (level: LogLevel, message: string) => void;

const listeners = new Set<Listener>();
let file: string | null = null;

/** From now on the log goes to this file too. */
export function logTo(path: string): void {
  file = path;
}

export function onLog(listener: Listener): void {
  listeners.add(listener);
}

/** Never throws: a full disk must not end a migration. */
export function log(level: LogLevel, message: string): void {
  try {
    if (file !== null) appendFileSync(file, `${new Date().toISOString()} ${level} ${message}\n`);
  } catch (error) {
    process.stderr.write(`mwarp agent: log: ${String(error)}\n`);
  }
  for (const listener of listeners) listener(level, message);
}

/** Runs one step and logs how long it took. */
export async function timed<T>(name: string, step: () => Promise<T>): Promise<T> {
  const start = performance.now();
  try {
    const result = await step();
    log("debug", `${name}: ${(performance.now() - start).toFixed(1)} ms`);
    return result;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    log("warn", `${name} failed after ${(performance.now() - start).toFixed(1)} ms: ${reason}`);
    throw error;
  }
}
