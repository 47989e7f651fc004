/** One finding of `mwarp doctor`. */
export interface Check {
  /** Stable, for programs: "host.kvm", "vm.vm-a.agent". */
  readonly id: string;
  readonly status: "ok" | "warn" | "fail";
  /** What was found. */
  readonly message: string;
  /** What to do about it; null when all is well. */
  readonly remedy: string | null;
}

export const ok = (id: string, message: string): Check => ({ id, status: "ok", message, remedy: null });
export const warn = (id: string, message: string, remedy: string): Check => ({
  id,
  status: "warn",
  message,
  remedy,
});
export const fail = (id: string, message: string, remedy: string): Check => ({
  id,
  status: "fail",
  message,
  remedy,
});
