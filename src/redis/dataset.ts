/** Keys whose values follow from their numbers and versions, so that each can be checked without a second copy. */
import type { RedisConnection } from "./connection.js";

export const VALUE_BYTES = 4096;
const KEYS_PER_BATCH = 64;
/** Batches on their way at once: enough to keep Redis busy over a slow virtual network. */
const BATCHES_IN_FLIGHT = 4;

export interface DatasetCheck {
  readonly keys: number;
  readonly missing: number;
  readonly wrong: number;
}

/** How often key `index` was written after it was loaded. */
export type VersionOf = (index: number) => number;
const asLoaded: VersionOf = () => 0;

export const keyName = (index: number): string => `item:${index}`;

/** The value of key `index`: neither two keys of one version nor two versions of one key have a 4-byte word in common at the same place. */
export function valueFor(index: number, version = 0): Buffer {
  const words = new Uint32Array(VALUE_BYTES / 4);
  let state = Math.imul(index + 1, 0x9e3779b1) ^ Math.imul(version, 0x85ebca6b);
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 0x0019660d) + 0x3c6ef35f) | 0;
    words[i] = state;
  }
  return Buffer.from(words.buffer);
}

/** Runs `work` for every batch of the keys 0..keys-1, a few batches at a time. `progress` gets the keys done so far. */
async function inBatches(
  keys: number,
  work: (first: number, count: number) => Promise<void>,
  progress: (done: number) => void,
): Promise<void> {
  let next = 0;
  let done = 0;
  const lane = async (): Promise<void> => {
    while (next < keys) {
      const first = next;
      const count = Math.min(KEYS_PER_BATCH, keys - first);
      next += count;
      await work(first, count);
      done += count;
      progress(done);
    }
  };
  await Promise.all(Array.from({ length: BATCHES_IN_FLIGHT }, lane));
}

/** Writes all keys. */
export async function load(
  redis: RedisConnection,
  keys: number,
  progress: (done: number) => void,
): Promise<void> {
  await inBatches(
    keys,
    async (first, count) => {
      const pairs = Array.from({ length: count }, (_, i) => [keyName(first + i), valueFor(first + i)]).flat();
      await redis.call("MSET", ...pairs);
    },
    progress,
  );
}

/** Reads all keys and compares every byte. */
export async function check(
  redis: RedisConnection,
  keys: number,
  progress: (done: number) => void,
  versionOf: VersionOf = asLoaded,
): Promise<DatasetCheck> {
  let missing = 0;
  let wrong = 0;
  await inBatches(
    keys,
    async (first, count) => {
      const values = await redis.call("MGET", ...Array.from({ length: count }, (_, i) => keyName(first + i)));
      for (let i = 0; i < count; i++) {
        const value = Array.isArray(values) ? values[i] : null;
        if (!Buffer.isBuffer(value)) missing++;
        else if (!value.equals(valueFor(first + i, versionOf(first + i)))) wrong++;
      }
    },
    progress,
  );
  return { keys, missing, wrong };
}
