/** Colour, only where a person looks: a terminal, without NO_COLOR (https://no-color.org) and not TERM=dumb. */
import type { Io, OutStream } from "../io.js";
import { plain } from "./plain.js";

const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Style = keyof typeof codes;
/** Colours a text, which is plain afterwards but for its colour. */
export type Painter = (style: Style, text: string) => string;

export function painter(io: Pick<Io, "env">, stream: OutStream): Painter {
  const { NO_COLOR, TERM } = io.env;
  const on = stream.isTTY === true && (NO_COLOR === undefined || NO_COLOR === "") && TERM !== "dumb";
  return on
    ? (style, text) => `\u001b[${codes[style]}m${plain(text)}\u001b[0m`
    : (_style, text) => plain(text);
}
