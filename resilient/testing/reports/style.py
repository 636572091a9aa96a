"""How the page looks, in the light and in the dark, on a desk, on a phone and on paper."""

from __future__ import annotations

import base64
import hashlib

CSS = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --text: #1b1f24; --soft: #57606a; --rule: #d5dae0; --link: #0757b8;
  --good: #187a3c; --bad: #c2202b; --late: #9a4a00; --unsure: #6b47b8;
  --good-back: #dcf2e3; --bad-back: #fbe1e2; --late-back: #fdeacd; --unsure-back: #ebe3fa; --calm-back: #e3e9f1;
  --shade: #d9323f; --dot: #23804a; --did: #3d5a80 }
@media (prefers-color-scheme: dark) { :root {
  --page: #0f1318; --card: #181d24; --text: #e7ebf0; --soft: #a3adb9; --rule: #343c47; --link: #7db8ff;
  --good: #6bd392; --bad: #ff8a8f; --late: #f5b45c; --unsure: #c3a8ff;
  --good-back: #163a25; --bad-back: #4a1d22; --late-back: #45300f; --unsure-back: #33274f; --calm-back: #263140;
  --shade: #ff6b74; --dot: #58c583; --did: #9dbbe0 } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere }
.page { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem }
p { margin: .4rem 0 }
a { color: var(--link) }
.soft, .when { color: var(--soft) }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 1rem 1.25rem;
  margin: 1.25rem 0 }
.head { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center }
.badge { display: inline-block; white-space: nowrap; font-weight: 600; font-size: .875rem; border-radius: 99px;
  padding: .1rem .7rem }
.passed { color: var(--good); background: var(--good-back) } .failed-run { color: var(--bad);
  background: var(--bad-back) }
.timeout { color: var(--late); background: var(--late-back) }
.inconclusive { color: var(--unsure); background: var(--unsure-back) }
.verdict { font-size: 1.1rem; font-weight: 600 }
.figures { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .6rem; margin: 1rem 0 0;
  padding: 0 }
.figures div { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: .5rem .8rem }
.card .figures div { background: none }
.figures dt { color: var(--soft); font-size: .8rem } .figures dd { margin: 0; font-size: 1.25rem; font-weight: 600;
  font-variant-numeric: tabular-nums; line-height: 1.3 }
.card .figures dd { font-size: 1.05rem }
.scroll { overflow-x: auto } .scroll:focus-visible { outline: 2px solid var(--link) }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--rule);
  min-width: 3.2rem }
tbody th { min-width: 7rem }
td.wide, th.wide { min-width: 10rem }
thead th { color: var(--soft); font-weight: 600; overflow-wrap: normal; white-space: nowrap }
tbody th { font-weight: 600 }
td.number, th.number { font-variant-numeric: tabular-nums; white-space: nowrap }
.yes, .no, .maybe { white-space: nowrap; font-weight: 600 }
.yes { color: var(--good) } .no { color: var(--bad) } .maybe { color: var(--unsure) }
ul.reasons { margin: .4rem 0; padding-left: 1.2rem }
pre { background: var(--page); border: 1px solid var(--rule); border-radius: 6px; padding: .6rem .8rem;
  margin: .4rem 0;
  font: .85rem/1.45 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere }
summary { cursor: pointer; font-weight: 600; margin-top: 1rem }
.timeline { display: block; overflow: visible; font: 12px system-ui, "Segoe UI", Roboto, sans-serif }
.timeline text { fill: var(--text) }
.defs { position: absolute; width: 0; height: 0 }
.timeline .lane { font-weight: 600 } .timeline .note, .timeline .tick { fill: var(--soft); font-weight: 400 }
.timeline .in { text-anchor: middle; dominant-baseline: central; pointer-events: none }
.timeline .start { text-anchor: start } .timeline .middle { text-anchor: middle } .timeline .end { text-anchor: end }
.timeline .halo { paint-order: stroke; stroke: var(--card); stroke-width: 3px }
.band { stroke: var(--card); stroke-width: 1px }
rect.phase { fill: var(--calm-back) } rect.phase.fault { fill: var(--bad-back) }
  rect.phase.observation { fill: var(--late-back) }
rect.phase.recovery { fill: var(--good-back) }
rect.band.fault:not(.phase) { fill: var(--bad-back); stroke: var(--bad) }
rect.state { stroke-width: 1.5px } rect.open { stroke-width: 2.5px } rect.half-open { stroke-dasharray: 4 2 }
figure { margin: 0 } figcaption { color: var(--soft); font-size: .8rem; margin-top: .3rem }
rect.closed { fill: var(--good-back); stroke: var(--good) } rect.open { fill: var(--bad-back); stroke: var(--bad) }
rect.half-open { fill: var(--late-back); stroke: var(--late) }
rect.isolated, rect.disabled, rect.changing { fill: var(--unsure-back); stroke: var(--unsure) }
.shade { fill: var(--shade); opacity: .1 } .edge { stroke: var(--shade); opacity: .55; stroke-dasharray: 3 3 }
.plot { fill: none; stroke: var(--rule) } .grid { stroke: var(--rule); opacity: .6 } .axis { stroke: var(--soft) }
.ok { fill: var(--dot); opacity: .6 } .failed { stroke: var(--bad); stroke-width: 1.8px; fill: none }
.did { fill: var(--did); stroke: var(--did); stroke-width: 1.5px }
.recovered { stroke: var(--good); stroke-width: 2px } .timeline .mark { font-weight: 600 }
.timeline .good { fill: var(--good) } .timeline .bad { fill: var(--bad) }
@media (max-width: 640px) { .page { padding: 1rem .6rem 3rem } .card { padding: .8rem .7rem }
  .timeline .note.beside, .on-wide { display: none }
  h1 { font-size: 1.35rem } .figures { grid-template-columns: repeat(2, minmax(0, 1fr)) } }
@media (max-width: 640px) { .stacks thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden }
  .stacks, .stacks tbody, .stacks tr, .stacks th { display: block } .stacks tr { padding: .5rem 0 }
  .stacks tr { border-bottom: 1px solid var(--rule) } .stacks th, .stacks td { border: 0; padding: .1rem 1rem .1rem 0 }
  .stacks td { display: inline-block; min-width: 0 } .stacks td.wide { display: block }
  .stacks td::before { content: attr(data-name) " "; color: var(--soft) } }
@media print { .card { break-inside: avoid } body { background: none } }
"""


def policy() -> str:
    """The Content-Security-Policy of the page: nothing from anywhere, and no style but this one."""
    digest = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
