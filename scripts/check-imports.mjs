#!/usr/bin/env node
// Import walls: reads scripts/imports.json and refuses every import in src/ that it does not allow.
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

/** @typedef {{ may: string[], packages?: string[] }} Part */
/** @type {{ everyone: string[], parts: Record<string, Part> }} */
const rules = JSON.parse(readFileSync(path.join(top, "scripts/imports.json"), "utf8"));

/** The longest key of `parts` that holds the file: a file's own entry goes before its folder's. @param {string} file */
function partOf(file) {
  return Object.keys(rules.parts)
    .filter((part) => file === part || file.startsWith(`${part}/`))
    .sort((a, b) => b.length - a.length)[0];
}

/** Everything `part` may import. @param {string} part @returns {Set<string>} */
function allowed(part, seen = new Set()) {
  for (const target of rules.parts[part]?.may ?? []) {
    if (seen.has(target)) continue;
    seen.add(target);
    if (!target.endsWith(".ts")) allowed(target, seen);
  }
  return seen;
}

/** @param {string} file @param {string} text @returns {string[]} */
function problems(file, text) {
  const part = partOf(file);
  if (part === undefined) return [`${file}: its folder has no entry in scripts/imports.json`];
  const may = allowed(part);
  const found = [];
  for (const [, specifier] of text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*['"]([^'"]+)['"]/g)) {
    if (specifier.startsWith("node:")) continue;
    if (!specifier.startsWith(".")) {
      const name = specifier
        .split("/")
        .slice(0, specifier.startsWith("@") ? 2 : 1)
        .join("/");
      const packages = rules.parts[part]?.packages;
      if (packages !== undefined && !packages.includes(name))
        found.push(`${file}: ${part} may not use the package ${name}`);
      continue;
    }
    const target = path.posix.join(path.posix.dirname(file), specifier).replace(/\.js$/, ".ts");
    const targetPart = partOf(target);
    const fine =
      targetPart === part ||
      rules.everyone.includes(target) ||
      may.has(target) ||
      (targetPart !== undefined && may.has(targetPart)) ||
      // What lies in a part's own folder and has an entry of its own; not the other way round.
      targetPart?.startsWith(`${part}/`);
    if (!fine)
      found.push(
        `${file}: ${part} may not import ${targetPart ?? target} (${specifier}); see scripts/imports.json`,
      );
  }
  return found;
}

const files = readdirSync(path.join(top, "src"), { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => path.posix.join("src", name));
const all = files.flatMap((file) => problems(file, readFileSync(path.join(top, file), "utf8")));
for (const problem of all) console.error(problem);
if (all.length > 0) process.exit(1);
console.log(`check-imports: ${files.length} files keep to the walls`);
