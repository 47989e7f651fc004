/**
 * What a guest, its agent or CRIU says may hold anything: a message with escape sequences in it could clear the screen,
 * set the window's title or answer for the person who reads it.
 */

/** The text with each control character (C0, DEL, C1) but newline and tab made visible: "\x1b". */
export const plain = (text: string): string =>
  text.replace(/\p{Cc}/gu, (character) =>
    character === "\n" || character === "\t"
      ? character
      : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
