"""The style sheet of the report page."""

from __future__ import annotations

STYLE = """
:root{--ink:#1c2126;--soft:#5b6570;--paper:#fff;--card:#f6f7f9;--rule:#dde1e6;--good:#0b7a4b;
--c0:#0060c8;--c1:#c2571a;--c2:#0b8a6a;--c3:#9a3fa0;--c4:#8a7000}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#9aa4af;--paper:#14171a;--card:#1d2125;
--rule:#343a41;--good:#4fc78f;--c0:#6cb0ff;--c1:#f39a5d;--c2:#46cfa7;--c3:#d78bdd;--c4:#d6be4a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 24px}
h1{font-size:1rem;margin:0;color:var(--soft);font-weight:600}
h2{font-size:1.05rem;margin:0 0 6px}
.verdict{font-size:1.45rem;line-height:1.35;margin:8px 0 20px;max-width:46em;text-wrap:pretty}
header dl{display:flex;flex-wrap:wrap;gap:32px;margin:0 0 8px}
header dt{color:var(--soft);font-size:.85rem}
header dd{margin:0;font-size:1.3rem;font-weight:600;font-variant-numeric:tabular-nums}
section{margin:36px 0}
section>p,figcaption,footer{color:var(--soft);font-size:.88rem;margin:0 0 10px}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:7px 6px;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top}
thead th{color:var(--soft);font-weight:500;vertical-align:bottom;line-height:1.25}
th:first-child{text-align:left;white-space:nowrap}
td b{font-weight:600}
td small,th small{display:block;color:var(--soft);font-weight:400;white-space:nowrap}
.key{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px;background:currentColor}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:20px}
figure{margin:0;background:var(--card);border-radius:10px;padding:16px}
figure ul{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;margin:4px 0;padding:0;font-size:.85rem}
figure li{color:var(--ink)}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font-size:11px}
.grid{stroke:var(--rule)}
.line{fill:none;stroke:currentColor;stroke-width:2}
.dot,.bar{fill:currentColor}
.whisker{stroke:currentColor;stroke-width:1.5;opacity:.7}
.ink{color:var(--ink)}
.s0{color:var(--c0)}.s1{color:var(--c1)}.s2{color:var(--c2)}.s3{color:var(--c3)}.s4{color:var(--c4)}
details{border-bottom:1px solid var(--rule);padding:8px 0}
summary{display:flex;gap:14px;cursor:pointer;align-items:baseline}
summary b{min-width:2em;text-align:right;font-variant-numeric:tabular-nums}
summary span{flex:1}
summary small{color:var(--soft);white-space:nowrap}
details dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 14px;margin:10px 0 10px 2.9em;
font-size:.92rem}
details dt{color:var(--soft)}
details dd{margin:0;overflow-wrap:anywhere}
details ol{margin:0 0 10px 2.9em;padding-left:1.4em;font-size:.85rem;color:var(--soft)}
details ol b{color:var(--ink);font-weight:500}
details ol p{margin:0 0 6px;overflow-wrap:anywhere}
.right b{color:var(--good)}
footer{border-top:1px solid var(--rule);padding-top:14px}
@media print{:root{--ink:#000;--soft:#444;--paper:#fff;--card:#fff;--rule:#ccc}body{font-size:11px}
main{max-width:none;padding:0}figure,details,tr{break-inside:avoid}}
"""
