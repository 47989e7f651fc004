/** Quantities for people. Programs get raw numbers with the unit in the key. */

import type { VmListing } from "../../protocol/api.js";
import { HUGE_BYTES } from "../../units.js";

const units = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** "0 B", "512 B", "1.0 GiB", "256 MiB": three digits at most, a decimal below ten. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit > 0 && value < 9.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** Host pages behind a VM's RAM: "4.0 KiB", "2.0 MiB", "2.0 MiB (thp)"; "-" when nobody knows. */
export function formatHostPages(memory: VmListing["memory"]): string {
  if (memory.host_page_bytes === null) return "-";
  return memory.transparent_huge ? `${formatBytes(HUGE_BYTES)} (thp)` : formatBytes(memory.host_page_bytes);
}

/** "0.4 ms", "41 ms", "1.3 s", "2 m 05 s". */
export function formatMs(ms: number): string {
  if (ms < 0.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${ms.toFixed(0)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} m ${String(seconds % 60).padStart(2, "0")} s`;
}

/** "just now", "5 m ago", "3 h ago", "2 d ago". */
export function formatAge(iso: string, now: number = Date.now()): string {
  const minutes = Math.floor((now - Date.parse(iso)) / 60_000);
  if (Number.isNaN(minutes)) return "-";
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} m ago`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ago`;
  return `${Math.floor(minutes / (24 * 60))} d ago`;
}
