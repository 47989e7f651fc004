/** A promise with its two ends in hand (Promise.withResolvers is not in Node 20), and waiting with limits. */
import { MwarpError } from "../errors.js";

export interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

export function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  // Whoever awaits it sees the failure; nobody may be waiting any more when it comes.
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}

export interface Limits {
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  readonly onTimeout: () => MwarpError;
}

/**
 * Awaits a promise within limits. The work behind it goes on; only the waiting ends.
 * @throws what `onTimeout` makes, or MWARP_E_CANCELLED.
 */
export async function limited<T>(promise: Promise<T>, limits: Limits): Promise<T> {
  const stop = deferred<never>();
  const onAbort = () => stop.reject(new MwarpError("MWARP_E_CANCELLED", "cancelled while waiting"));
  const timer = setTimeout(() => stop.reject(limits.onTimeout()), limits.timeoutMs);
  limits.signal?.addEventListener("abort", onAbort);
  if (limits.signal?.aborted) onAbort();
  promise.catch(() => undefined);
  try {
    return await Promise.race([promise, stop.promise]);
  } finally {
    clearTimeout(timer);
    limits.signal?.removeEventListener("abort", onAbort);
  }
}
