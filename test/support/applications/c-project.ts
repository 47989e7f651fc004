/** A small C project, for a build that is moved: its files, and what the program must print. */

const UNITS = 12;
const FUNCTIONS = 8;
const MODULUS = 1_000_003;

/** Enough functions that the compiler has something to do for a while. */
function unit(number: number): string {
  const one = (index: number): string => `
static unsigned long step_${index}(unsigned long value)
{
    char text[32];
    snprintf(text, sizeof(text), "%lu", value);
    for (size_t i = 0; i < strlen(text); i++) value = (value * ${10 + index} + (unsigned long)text[i]) % ${MODULUS};
    return value + ${number};
}
`;
  const indices = Array.from({ length: FUNCTIONS }, (_, index) => index);
  const calls = indices.map((index) => `    value = step_${index}(value);\n`).join("");
  return [
    '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include "units.h"\n',
    ...indices.map(one),
    `\nunsigned long unit_${number}(unsigned long value)\n{\n${calls}    return value;\n}\n`,
  ].join("");
}

/** What `unit` compiles to. */
function evaluate(number: number, start: number): number {
  let value = start;
  for (let index = 0; index < FUNCTIONS; index++) {
    for (const character of String(value)) value = (value * (10 + index) + character.charCodeAt(0)) % MODULUS;
    value += number;
  }
  return value;
}

const numbers = Array.from({ length: UNITS }, (_, number) => number);
const makefile = `CC = gcc
CFLAGS = -O1 -Wall -Werror
OBJECTS = main.o ${numbers.map((number) => `unit_${number}.o`).join(" ")}
program: $(OBJECTS)
\t$(CC) -o $@ $(OBJECTS)
$(OBJECTS): units.h
`;
const main = `#include <stdio.h>
#include "units.h"

int main(void)
{
    unsigned long value = 1;
${numbers.map((number) => `    value = unit_${number}(value);\n    printf("unit %d: %lu\\n", ${number}, value);\n`).join("")}    return 0;
}
`;

/** Path in the container -> text. */
export const sources: Readonly<Record<string, { readonly text: string }>> = {
  "/src/Makefile": { text: makefile },
  "/src/main.c": { text: main },
  "/src/units.h": {
    text: numbers.map((number) => `unsigned long unit_${number}(unsigned long value);\n`).join(""),
  },
  ...Object.fromEntries(numbers.map((number) => [`/src/unit_${number}.c`, { text: unit(number) }])),
};

/** The lines that the program prints when every file was compiled and linked right. */
export function expectedOutput(): string[] {
  let value = 1;
  return numbers.map((number) => {
    value = evaluate(number, value);
    return `unit ${number}: ${value}`;
  });
}
