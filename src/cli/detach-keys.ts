/** Keys that detach from a container, written as Docker and Podman write them: "ctrl-p,ctrl-q". */
import { InvalidArgumentError } from "commander";

const CONTROL = /^ctrl-([a-z@[\\\]^_])$/i;

/** The bytes of the keys. @throws InvalidArgumentError naming the wrong one */
export function parseDetachKeys(text: string): Buffer {
  if (text === "") return Buffer.alloc(0);
  const bytes = text.split(",").map((key) => {
    const control = CONTROL.exec(key)?.[1];
    if (control !== undefined) return control.toUpperCase().charCodeAt(0) & 0x1f;
    if (/^[\x21-\x7e]$/.test(key)) return key.charCodeAt(0);
    throw new InvalidArgumentError(`"${key}" is no key: name one character, or ctrl- and a letter`);
  });
  return Buffer.from(bytes);
}

/** Looks for the keys in what is typed. What may be their beginning waits for the next key. */
export class DetachKeys {
  readonly #keys: Buffer;
  #seen = 0;

  /** @param keys none: nothing detaches */
  constructor(keys: Buffer) {
    this.#keys = keys;
  }

  /** What is to be passed on, and whether the keys have come; what follows them is nobody's. */
  push(typed: Uint8Array): { readonly passOn: Buffer; readonly detached: boolean } {
    const passOn: number[] = [];
    for (const byte of typed) {
      if (this.#keys.length > 0 && byte === this.#keys[this.#seen]) {
        this.#seen++;
        if (this.#seen === this.#keys.length) return { passOn: Buffer.from(passOn), detached: true };
        continue;
      }
      passOn.push(...this.#keys.subarray(0, this.#seen));
      this.#seen = this.#keys.length > 0 && byte === this.#keys[0] ? 1 : 0;
      if (this.#seen === 0) passOn.push(byte);
    }
    return { passOn: Buffer.from(passOn), detached: false };
  }
}
