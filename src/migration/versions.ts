/** Compares dotted version numbers as tools print them ("4.1.1", "1.1.15+ds1"); what follows the numbers is ignored. */
export function versionAtLeast(version: string, minimum: string): boolean {
  const numbers = (text: string): number[] => (/^\d+(\.\d+)*/.exec(text)?.[0] ?? "").split(".").map(Number);
  const have = numbers(version);
  const want = numbers(minimum);
  for (let i = 0; i < want.length; i++) {
    const a = have[i] ?? 0;
    const b = want[i]!;
    if (a !== b) return a > b;
  }
  return have.length > 0 && !Number.isNaN(have[0]);
}
