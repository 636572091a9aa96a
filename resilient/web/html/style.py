"""How the page looks, in the light and in the dark, on a desk and on a phone."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --text: #1b1f24; --soft: #57606a; --rule: #d5dae0; --link: #0757b8; --edge: #6e7781;
  --good: #187a3c; --bad: #b81d28; --late: #8a4300; --unsure: #6b47b8; --calm: #4a5563;
  --good-back: #dcf2e3; --bad-back: #fbe1e2; --late-back: #fdeacd; --unsure-back: #ebe3fa; --calm-back: #e3e9f1;
  --calls: #7d97b8; --wrong: #c2202b }
@media (prefers-color-scheme: dark) { :root {
  --page: #0f1318; --card: #181d24; --text: #e7ebf0; --soft: #a3adb9; --rule: #343c47; --link: #7db8ff; --edge: #7d8793;
  --good: #6bd392; --bad: #ff9a9e; --late: #f5b45c; --unsure: #c3a8ff; --calm: #b7c3d2;
  --good-back: #163a25; --bad-back: #4a1d22; --late-back: #45300f; --unsure-back: #33274f; --calm-back: #263140;
  --calls: #5f7da3; --wrong: #ff6b74 } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere }
.page { max-width: 70rem; margin: 0 auto; padding: 1.25rem 1rem 4rem }
.skip { position: absolute; left: -99rem; padding: .5rem 1rem; background: var(--card); z-index: 1 }
.skip:focus { left: .5rem; top: .5rem }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 0 }
h3 { font-size: 1rem; margin: 0 }
p { margin: .3rem 0 }
a { color: var(--link) }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 3px }
.soft { color: var(--soft) }
.small { font-size: .85rem }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
.defs { position: absolute; width: 0; height: 0 }
.top, .head { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: baseline; justify-content: space-between }
.head { justify-content: flex-start; margin-bottom: .5rem }
.verdict { font-size: 1.15rem; font-weight: 600; margin: 1rem 0 .2rem }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 1rem 1.25rem;
  margin: 1.1rem 0 }
.told { border-left: 4px solid var(--good) } .wrong { border-left: 4px solid var(--bad) }
.figures { display: flex; flex-wrap: wrap; gap: .5rem; margin: .7rem 0 0; padding: 0 }
.figures div { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: .35rem .8rem;
  min-width: 6.5rem }
.figures dt { color: var(--soft); font-size: .8rem }
.figures dd { margin: 0; font-size: 1.2rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3 }
.badge { display: inline-flex; align-items: center; gap: .35rem; white-space: nowrap; font-weight: 600;
  font-size: .85rem; border-radius: 99px; padding: .05rem .65rem .05rem .5rem }
.badge svg { width: .7rem; height: .7rem; fill: currentColor; stroke: currentColor; flex: none }
.good { color: var(--good); background: var(--good-back) } .bad { color: var(--bad); background: var(--bad-back) }
.late { color: var(--late); background: var(--late-back) } .calm { color: var(--calm); background: var(--calm-back) }
.unsure { color: var(--unsure); background: var(--unsure-back) }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; vertical-align: middle; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--rule) }
th:last-child, td:last-child { padding-right: 0 }
thead th { color: var(--soft); font-weight: 600; overflow-wrap: normal; vertical-align: bottom }
tbody th { font-weight: 600; min-width: 12rem }
tbody th .soft { font-weight: 400; white-space: nowrap }
tbody tr:last-child > * { border-bottom: 0 }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.spark { display: block; width: 130px; height: 30px }
.spark .calls { fill: var(--calls); stroke: none } .spark .failed { fill: var(--wrong); stroke: none }
.spark .base { stroke: var(--rule); fill: none }
.wide .spark { width: 100%; height: 90px }
dl.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .4rem 1.2rem;
  margin: .5rem 0 }
dl.pairs dt { color: var(--soft); font-size: .8rem } dl.pairs dd { margin: 0; font-variant-numeric: tabular-nums }
ul, ol { margin: .3rem 0; padding-left: 1.3rem }
ul.plain, ol.plain { list-style: none; padding: 0 }
ol.plain > li { padding: .3rem 0; border-bottom: 1px solid var(--rule) } ol.plain > li:last-child { border: 0 }
.run { border-top: 1px solid var(--rule); padding: .7rem 0 } .run:first-of-type { border: 0 }
.steps li { padding: .15rem 0 }
form { margin: 0 }
.row { display: flex; flex-wrap: wrap; gap: .5rem .7rem; align-items: end; margin: .5rem 0 }
label { display: block; font-size: .85rem; color: var(--soft) }
input, select, button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--edge);
  border-radius: 6px; padding: .3rem .6rem; min-height: 2.4rem; max-width: 100% }
input[type=search], input[type=password] { width: 20rem }
button { cursor: pointer; font-weight: 600; background: var(--calm-back) }
button:hover { border-color: var(--link) }
button.danger { color: var(--bad); border-color: var(--bad); background: var(--card) }
button.link { border: 0; background: none; color: var(--link); padding: 0; min-height: 0; font-weight: 400;
  text-decoration: underline }
nav.pages { display: flex; gap: 1rem; flex-wrap: wrap; margin-top: .7rem }
.live { white-space: nowrap }
.live::before { content: ""; display: inline-block; width: .6rem; height: .6rem; border-radius: 50%;
  margin-right: .4rem; border: 2px solid var(--edge) }
.live[data-mode=live]::before { background: var(--good); border-color: var(--good) }
.live[data-mode=polling]::before { background: var(--late); border-color: var(--late); border-radius: 0 }
summary { cursor: pointer }
footer { color: var(--soft); font-size: .85rem; margin-top: 1.5rem }
@media (max-width: 760px) {
  .page { padding: .9rem .6rem 3rem } .card { padding: .8rem .8rem } h1 { font-size: 1.3rem }
  .figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)) } .figures div { min-width: 0 }
  .stacks thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden }
  .stacks, .stacks tbody { display: block }
  .stacks tr { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: .15rem .6rem; padding: .7rem 0;
    border-bottom: 1px solid var(--rule) }
  .stacks tbody tr:last-child { border-bottom: 0 }
  .stacks th, .stacks td, .stacks td.number { border: 0; padding: 0; text-align: left; min-width: 0 }
  .stacks th { grid-column: 1 / -1 } .stacks td.state { grid-column: 1 / -1 }
  .stacks td[data-name]::before { content: attr(data-name); display: block; color: var(--soft); font-size: .8rem }
  .stacks td.trend { grid-column: 1 / -1 } .stacks td.trend:not(:has(.calls, .failed)) { display: none }
  .spark { width: 100%; height: 34px }
  input[type=search], input[type=password] { width: 100% } .grow { flex: 1 1 12rem }
}
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth } }
@media print { .card { break-inside: avoid } body { background: none } form, nav { display: none } }
"""
