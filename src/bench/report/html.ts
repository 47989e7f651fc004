/**
 * The report as one HTML file that refers to nothing outside itself. Every value goes through the `html` tag, which escapes it;
 * only drawings of Vega, which escapes its own text, and the style sheet are put in as they are.
 */
import { html, raw } from "hono/html";
import { comparedSettings, isQuiet, type Results } from "../results.js";
import { type BarRow, barRows, countVerdicts } from "./bar-table.js";
import { commandsOf, countsOf, emulationWarning, factsOf, wrongs } from "./facts.js";
import type { Figure, LegendEntry, Section, Table } from "./figure.js";
import { gaps } from "./gaps.js";
import { type Drawing, draw } from "./render.js";
import { buildSections } from "./sections.js";
import { style } from "./style.js";
import { accountOfTime, phaseGuide } from "./where.js";

/** A piece of markup: what the tag makes, once it is there. */
type Markup = ReturnType<typeof html>;

export async function htmlPage(results: Results): Promise<string> {
  const { present, absent } = buildSections(results);
  const sections: Markup[] = [];
  for (const section of present) sections.push(await sectionOf(section, results));
  const rows = barRows(results);
  const wrong = wrongs(results);
  const commands = commandsOf(results);
  const page = await html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>mWarp benchmark</title>
<style>${raw(style())}</style>
</head>
<body>
<main>
${head(results)}
<nav>
<a href="#bars">Bars</a>
${present.map(({ id, title }) => html`<a href="#${id}">${title}</a>`)}
${commands.length > 0 ? html`<a href="#commands">Commands</a>` : ""}
${wrong.rows.length > 0 ? html`<a href="#wrong">What went wrong</a>` : ""}
</nav>
<h2 id="bars">Bars</h2>
<p>${countVerdicts(rows)}. <span class="quiet">A bar is met when its median is; with fewer runs than it asks for it is not measured. 95 % intervals are bootstrapped over rounds, each of which ran every cell once.</span></p>
${barTable(rows)}
${rows.some(({ verdict }) => verdict === "not met") && present.some(({ id }) => id === "phases") ? html`<p class="note">For the times that do not reach a bar, <a href="#phases">Where the time goes</a> has all phases; they add up to the total.</p>` : ""}
<details><summary>How the figures are computed</summary><ul>${rows.map(({ figure, how }) => html`<li>${figure}: ${how}.</li>`)}</ul></details>
${sections}
${commands.length > 0 ? html`<h2 id="commands">The baselines' commands</h2>` : ""}
${commands.map(({ method, lines }) => html`<h3>${method}</h3><pre>${lines.join("\n")}</pre>`)}
${wrong.rows.length > 0 ? html`<h2 id="wrong">What went wrong</h2>${tableOf(wrong)}` : ""}
${absent.length > 0 ? html`<p class="note">Not measured: ${absent.join(", ")}.</p>` : ""}
</main>
</body>
</html>
`;
  return page.toString();
}

function head(results: Results): Markup {
  const facts = factsOf(results);
  return html`<h1>mWarp benchmark</h1>
<p class="quiet">${results.run === null ? "The results file has no run." : countsOf(results)}</p>
${results.run?.accelerator === "tcg" ? html`<p class="warning">${emulationWarning}</p>` : ""}
<dl>${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${name === "command" ? html`<code>${value}</code>` : value}</dd>`)}</dl>`;
}

function barTable(rows: readonly BarRow[]): Markup {
  const verdict = (value: string): string => `verdict ${value.replaceAll(" ", "-")}`;
  return html`<div class="scroll"><table class="bars">
<thead><tr><th class="word">figure</th><th class="word">bar</th><th class="word">setting</th><th>median</th><th>95 % interval</th><th>runs</th><th class="word">verdict</th><th class="word">remark</th></tr></thead>
${rows.map(
  ({ figure, limit, settings }) =>
    html`<tbody>${settings.map(
      (one, index) =>
        html`<tr>${
          index === 0
            ? html`<td class="word figure" rowspan="${settings.length}">${figure}</td><td class="word whole limit" rowspan="${settings.length}">${limit}</td>`
            : ""
        }<td class="word setting">${one.setting}</td><td class="whole">${one.value}</td><td class="whole">${one.interval}</td><td class="whole runs">${one.runs}</td><td class="word ${verdict(one.verdict)}">${one.verdict}</td><td class="word remark">${unbroken(one.note)}</td></tr>`,
    )}</tbody>`,
)}
</table></div>`;
}

async function sectionOf({ id, title, figures }: Section, results: Results): Promise<Markup> {
  const parts: Markup[] = [];
  for (const figure of figures) parts.push(await figureOf(figure));
  return html`<h2 id="${id}">${title}</h2>
${id === "phases" ? html`<p class="note">${phaseGuide()}</p>${gapList(results)}${accounts(results)}` : ""}
${parts}`;
}

function gapList(results: Results): Markup | string {
  const list = gaps(results);
  if (list.length === 0) return "";
  return html`<h3>Bars on time that are not reached</h3><ul class="account">${list.map((one) => html`<li>${unbroken(one)}</li>`)}</ul>`;
}

function accounts(results: Results): Markup[] {
  return comparedSettings(results.migrations.filter(isQuiet))
    .map((setting) => accountOfTime(results, setting))
    .map(
      ({ setting, sentences }) =>
        html`<h3>${setting}</h3><ul class="account">${sentences.map((one) => html`<li>${unbroken(one)}</li>`)}</ul>`,
    );
}

async function figureOf({ title, note, plot, table }: Figure): Promise<Markup> {
  const drawing = plot === null ? null : await draw(plot);
  return html`<figure class="${drawing === null ? "" : "pair"}">
<figcaption><h3>${title}</h3><p class="note">${unbroken(plot === null ? note : `${note} ${plot.reading}`)}</p></figcaption>
${drawing === null || plot === null ? "" : plotOf(drawing, plot.legend, title)}
${tableOf(table)}
</figure>`;
}

const plotOf = (drawing: Drawing, legend: readonly LegendEntry[], title: string): Markup =>
  html`<div class="plot">
<ul class="legend">${legend.map(({ name, color }) => html`<li><i style="background:${color}"></i>${name}</li>`)}</ul>
<div class="wide" role="img" aria-label="${title}">${raw(drawing.wide)}</div>
<div class="narrow" role="img" aria-label="${title}">${raw(drawing.narrow)}</div>
</div>`;

function tableOf({ head: heads, rows, words = [] }: Table): Markup {
  const kind = (index: number): string => (index === 0 || words.includes(index) ? "word" : "");
  return html`<div class="scroll"><table>
<thead><tr>${heads.map((text, index) => html`<th class="${kind(index)}">${text}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map((text, index) => html`<td class="${kind(index)}">${kind(index) === "word" ? text : split(text)}</td>`)}</tr>`)}</tbody>
</table></div>`;
}

/** A figure and its unit stay on one line. */
const unbroken = (text: string): string => text.replaceAll(/(\d) (?=%|ms\b|s\b|[KMGT]?i?B\b)/g, "$1\u00a0");

/** What stands in brackets after a figure, the quartiles, goes below it. */
function split(text: string): Markup | string {
  const parts = /^([^(]+) (\(.+\))$/.exec(text);
  return parts === null ? text : html`${parts[1]}<span class="aside">${parts[2]}</span>`;
}
