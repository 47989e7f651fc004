#!/usr/bin/env node
// Writes the pages of docs/ that are made from the program. Needs a build (make build).
import { writeFileSync } from "node:fs";

/** @param {string} name file below dist/cli */
const built = (name) => import(new URL(`../dist/cli/${name}`, import.meta.url).href);
/** @param {string} name file below docs */
const page = (name) => new URL(`../docs/${name}`, import.meta.url);

const { commandsPage, errorsPage } = await built("docs.js");
const { processIo } = await built("io.js");
const { buildProgram } = await built("program.js");
const { Session } = await built("session.js");

writeFileSync(page("errors.md"), errorsPage());
writeFileSync(page("commands.md"), commandsPage(buildProgram(new Session(processIo("mwarp")))));
