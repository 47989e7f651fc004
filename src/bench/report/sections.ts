/** The sections of a report, in their order. One without data is named and left out. */
import type { Results } from "../results.js";
import type { Figure, Section } from "./figure.js";
import { crossoverFigures } from "./plots/crossover.js";
import { downtimeFigures } from "./plots/downtimes.js";
import { hostFigures } from "./plots/host.js";
import { phaseFigures } from "./plots/phases.js";
import { processFigures } from "./plots/processes.js";
import { sizeFigures } from "./plots/sizes.js";
import { stallFigures } from "./plots/stalls.js";
import { stunFigures } from "./plots/stuns.js";
import { timelineFigures } from "./plots/timelines.js";
import { writerFigures } from "./plots/writers.js";

interface Plan {
  readonly id: string;
  readonly title: string;
  readonly build: (results: Results) => readonly Figure[];
}

const plan: readonly Plan[] = [
  { id: "size", title: "Time against size", build: sizeFigures },
  { id: "phases", title: "Where the time goes", build: phaseFigures },
  { id: "downtime", title: "What the downtime is for", build: downtimeFigures },
  { id: "stun", title: "The stun", build: stunFigures },
  { id: "stalls", title: "Page stalls after the move", build: stallFigures },
  { id: "applications", title: "Applications around the move", build: timelineFigures },
  { id: "writers", title: "Containers that write", build: writerFigures },
  { id: "processes", title: "Many processes", build: processFigures },
  { id: "host", title: "What it costs the host", build: hostFigures },
  { id: "crossover", title: "Remap or copy", build: crossoverFigures },
];

export interface Sections {
  readonly present: readonly Section[];
  /** Titles of those without data. */
  readonly absent: readonly string[];
}

export function buildSections(results: Results): Sections {
  const all = plan.map(({ id, title, build }): Section => ({ id, title, figures: build(results) }));
  return {
    present: all.filter(({ figures }) => figures.length > 0),
    absent: all.filter(({ figures }) => figures.length === 0).map(({ title }) => title),
  };
}
