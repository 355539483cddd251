"""The style sheet of the report: light and dark by the reader's preference, one column on a phone."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fff; --card: #f6f7f9; --ink: #1a1d21; --dim: #59616b; --rule: #d9dde3;
  --good: #13743b; --bad: #b3261e; --unsure: #8a5a00;
  --c0: #1f6fc4; --c1: #c8511b; --c2: #2a8a57; --c3: #8c4fb5; --c4: #a8821a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1d2125; --ink: #e8eaed; --dim: #a2abb5; --rule: #363c43;
    --good: #62c98a; --bad: #ff8a80; --unsure: #f0be62;
    --c0: #6fb3f5; --c1: #f5935f; --c2: #6fd09b; --c3: #c79be8; --c4: #e2c15c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1320px; margin: 0 auto; padding: 16px; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
h1 { margin: 8px 0; font-size: 1.7rem; }
h2 { margin: 28px 0 10px; font-size: 1.25rem; }
h3 { margin: 0; font-size: 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 12px 0; }
dt { color: var(--dim); }
dd { margin: 0; overflow-wrap: anywhere; }
li { overflow-wrap: anywhere; }
.verdict { margin: 8px 0; padding: 8px 14px; border-radius: 8px; border: 2px solid; font-weight: 600;
  overflow-wrap: anywhere; }
.passed, .held { color: var(--good); }
.failed, .broken { color: var(--bad); }
.no-verdict, .interrupted, .unknown { color: var(--unsure); }
.held, .broken, .unknown { font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(145px, 1fr)); gap: 10px; padding: 0;
  list-style: none; }
.tiles li { background: var(--card); border-radius: 8px; padding: 8px 12px; }
.tiles span { display: block; color: var(--dim); font-size: .85rem; }
.tiles b { font-size: 1.3rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); gap: 14px; }
figure { margin: 0; padding: 12px; background: var(--card); border-radius: 8px; min-width: 0; }
figcaption { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; justify-content: space-between; }
.none { color: var(--dim); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 0; padding: 0; list-style: none; font-size: .85rem; }
.legend li::before { content: ""; display: inline-block; width: 14px; height: 4px; border-radius: 2px;
  margin-right: 6px; vertical-align: middle; background: var(--c); }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); } .c4 { --c: var(--c4); }
.plot { display: block; width: 100%; height: auto; margin-top: 6px; }
.plot.narrow { display: none; }
@media (max-width: 480px) { .plot.narrow { display: block; } .plot.wide { display: none; } }
.plot text { font: 12px system-ui, sans-serif; fill: var(--dim); }
.plot text.mark { fill: var(--ink); }
.grid, .tick { stroke: var(--rule); stroke-width: 1; }
.axis { stroke: var(--dim); stroke-width: 1; }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.area { fill: var(--c); fill-opacity: .45; stroke: var(--c); stroke-width: 1; }
.piece { fill: var(--c); stroke: var(--card); stroke-width: 1; }
line.mark { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 4 3; }
.hit { fill: var(--ink); fill-opacity: 0; }
.hit:hover { fill-opacity: .12; }
.wide-table { overflow-x: auto; }
table { border-collapse: collapse; margin: 0 0 14px; font-size: .92rem; }
caption { text-align: left; font-weight: 600; padding: 6px 0; }
th, td { text-align: left; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; white-space: nowrap; }
td:last-child { white-space: normal; min-width: 13rem; }
th { font-weight: 500; }
thead th { color: var(--dim); }
.number { display: block; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, pre { font: .9em/1.5 ui-monospace, monospace; }
pre { background: var(--card); border-radius: 8px; padding: 12px; overflow-x: auto; }
@media print { .plots { grid-template-columns: 1fr 1fr; } figure { break-inside: avoid; } }
"""
