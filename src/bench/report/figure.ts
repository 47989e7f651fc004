/** What a report is made of, before it becomes HTML or Markdown. All text is plain: whoever writes it out escapes it. */
import type { TopLevelSpec } from "vega-lite";

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Columns that hold words; all others are figures and are set to the right. The first always holds words. */
  readonly words?: readonly number[];
}

export interface Figure {
  readonly title: string;
  /** What is shown and how it was measured; sentences. */
  readonly note: string;
  /** Null for a table alone. */
  readonly plot: Plot | null;
  readonly table: Table;
}

/** A plot is a specification for a width in pixels: small screens get one of their own, not a shrunken one. */
export interface Plot {
  readonly spec: (width: number) => TopLevelSpec;
  /** What a line, bar or point of which colour is. */
  readonly legend: readonly LegendEntry[];
  /** How to read it; sentences. */
  readonly reading: string;
}

export interface LegendEntry {
  readonly name: string;
  /** A colour of theme.ts: a CSS variable. */
  readonly color: string;
}

export interface Section {
  readonly id: string;
  readonly title: string;
  readonly figures: readonly Figure[];
}
