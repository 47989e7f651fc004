/** The entry that bin/mwarp starts. */
import { fileURLToPath } from "node:url";
import { processIo } from "./io.js";
import { run } from "./program.js";

// `mwarp ps | head`: the reader has gone, so there is nobody to tell.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

process.exitCode = await run(process.argv.slice(2), processIo(fileURLToPath(import.meta.url)));
