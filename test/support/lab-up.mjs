#!/usr/bin/env node
// `lab-up.mjs OPTIONS`: brings a lab up through the built code, with options (JSON) that the command line does not have: a name of
// its own, VMs whose memory is private, VMs without the preloaded library.
const { labUp } = await import(new URL("../../dist/lab/index.js", import.meta.url).href);

await labUp(JSON.parse(process.argv[2]), {
  /** @param {{ message: string }} progress */
  onProgress: ({ message }) => process.stderr.write(`${message}\n`),
});
