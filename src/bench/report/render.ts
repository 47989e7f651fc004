/** Plots to SVG, in this process and without a browser. Vega takes half a second to load, so only what renders loads it. */
import { setTimeout } from "node:timers/promises";
import type { Plot } from "./figure.js";
import { config } from "./theme.js";

/** Pixels; a plot is drawn for a page beside a table, and for a telephone. */
const WIDE = 590;
const NARROW = 330;

export interface Drawing {
  readonly wide: string;
  readonly narrow: string;
}

export async function draw(plot: Plot): Promise<Drawing> {
  return { wide: await toSvg(plot, WIDE), narrow: await toSvg(plot, NARROW) };
}

async function toSvg(plot: Plot, width: number): Promise<string> {
  const [vega, { compile }] = await Promise.all([import("vega"), import("vega-lite")]);
  const { spec } = compile(plot.spec(width), { config });
  const view = new vega.View(vega.parse(spec), { renderer: "none", logLevel: vega.Error });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
    // Drawing is all computation: give whoever shares this process a turn.
    await setTimeout(0);
  }
}
