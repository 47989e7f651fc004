/** What a client did, operation by operation: complete, so that it can be cut into intervals at any instant afterwards. */

const FIRST_CAPACITY = 1 << 14;
/** An hour of the fastest client there is; 256 MiB. */
const MAX_OPERATIONS = 1 << 24;

export interface Operation {
  /** `monotonicMs` at its end. */
  readonly endedAt: number;
  readonly latencyMs: number;
}

/** Operations in the order in which they ended. */
export class OperationLog implements Iterable<Operation> {
  private endedAt = new Float64Array(FIRST_CAPACITY);
  private latencies = new Float64Array(FIRST_CAPACITY);
  private count = 0;

  get length(): number {
    return this.count;
  }

  /** @throws RangeError when somebody let a client run on and on */
  add(endedAt: number, latencyMs: number): void {
    if (this.count === this.endedAt.length) this.grow();
    this.endedAt[this.count] = endedAt;
    this.latencies[this.count] = latencyMs;
    this.count++;
  }

  clear(): void {
    this.count = 0;
  }

  *[Symbol.iterator](): Generator<Operation, void> {
    for (let i = 0; i < this.count; i++) yield { endedAt: this.endedAt[i], latencyMs: this.latencies[i] };
  }

  private grow(): void {
    if (this.count >= MAX_OPERATIONS) throw new RangeError(`more than ${MAX_OPERATIONS} operations`);
    const larger = (old: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> => {
      const copy = new Float64Array(2 * old.length);
      copy.set(old);
      return copy;
    };
    this.endedAt = larger(this.endedAt);
    this.latencies = larger(this.latencies);
  }
}
