/** The style sheet of the report. */
import { cssVariables } from "./theme.js";

export const style = (): string => `
:root {
  color-scheme: light dark;
  --ground: #fdfdfc; --ink: #1b1f24; --quiet: #57606a; --rule: #d9dde2; --raised: #f4f5f6; --still: #57606a;
  --good: #116329; --bad: #a40e26;
  ${cssVariables("light")}
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171a; --ink: #e4e7ea; --quiet: #9aa4ae; --rule: #333a42; --raised: #1c2025; --still: #aab4be;
    --good: #6cc585; --bad: #ff8f8f;
    ${cssVariables("dark")}
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 56px 0 12px; padding-top: 12px; border-top: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 0 0 2px; }
p { margin: 0 0 12px; max-width: 78ch; }
.quiet, .note { color: var(--quiet); }
.note { font-size: 13px; }
.warning { border-left: 3px solid var(--cold); padding: 2px 0 2px 12px; }
nav { font-size: 13px; margin: 16px 0 0; display: flex; flex-wrap: wrap; gap: 4px 16px; }
a { color: var(--warp); text-decoration: none; }
a:hover { text-decoration: underline; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 16px; margin: 20px 0; font-size: 13px; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: 12px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--raised); padding: 10px 12px; white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 0 4px 12px; vertical-align: top; border-bottom: 1px solid var(--rule); }
th { color: var(--quiet); font-weight: 500; vertical-align: bottom; }
td { white-space: nowrap; }
th.word, td.word { text-align: left; white-space: normal; }
th:first-child, td:first-child, td.word:first-child { padding-left: 0; white-space: nowrap; }
.aside { color: var(--quiet); font-size: 11px; white-space: nowrap; display: block; }
.bars { width: 100%; }
.bars tbody + tbody { border-top: 1px solid var(--quiet); }
.bars tbody tr:not(:last-child) td:not([rowspan]) { border-bottom-style: dotted; }
.bars td, .bars th { padding-left: 16px; }
.bars td.word:first-child { white-space: normal; padding-left: 16px; }
.bars td.word.figure, .bars th:first-child { min-width: 190px; padding-left: 0; }
.bars td.whole, .bars td.verdict { white-space: nowrap; }
.bars .remark { max-width: 260px; font-size: 12px; color: var(--quiet); }
.verdict { white-space: nowrap; font-weight: 600; }
.met { color: var(--good); } .not-met { color: var(--bad); } .not-measured { color: var(--quiet); font-weight: 400; }
figure { margin: 0 0 40px; display: grid; gap: 4px 30px; grid-template-columns: minmax(0, 1fr); }
figcaption p { margin-bottom: 8px; }
.plot svg { display: block; max-width: 100%; height: auto; }
.narrow { display: none; }
ul.legend { list-style: none; margin: 0 0 6px; padding: 0; display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 12px; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px; }
details { font-size: 13px; }
summary { cursor: pointer; color: var(--quiet); }
details ul, .account { padding-left: 18px; font-size: 13.5px; }
.account li { max-width: 100ch; margin-bottom: 6px; }
@media (min-width: 1080px) {
  figure.pair { grid-template-columns: 590px minmax(0, 1fr); }
  figure.pair figcaption { grid-column: 1 / -1; }
}
@media (max-width: 700px) {
  main { padding: 20px 14px 48px; }
  .wide { display: none; }
  .narrow { display: block; }
  .bars thead { display: none; }
  .bars, .bars tbody, .bars tr { display: block; }
  .bars tbody { padding: 8px 0; }
  .bars tr { display: flex; flex-wrap: wrap; gap: 0 14px; padding: 3px 0; }
  .bars tbody tr td, .bars tbody tr td.word.figure, .bars tbody tr td.word:first-child { border: 0; padding: 0; max-width: none; }
  .bars td.figure, .bars td.limit, .bars td.setting, .bars td.remark { flex: 0 0 100%; }
  .bars td.figure { font-weight: 600; }
  .bars td.limit, .bars td.setting { color: var(--quiet); }
  .bars td.verdict { order: -1; }
  .bars td.figure, .bars td.limit, .bars td.setting { order: -2; }
  .bars td.runs::after { content: " runs"; }
  .bars td:empty { display: none; }
  table:not(.bars) td:first-child, table:not(.bars) th:first-child { position: sticky; left: 0; background: var(--ground); }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 6px; }
}
@media print { h2 { break-after: avoid; } figure { break-inside: avoid; } }
`;
