"""The report's style: one column on a phone, two on a large screen, light and dark."""

STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b2430;--quiet:#5b6675;--grid:#dde2e8;
--c0:#1f6feb;--c1:#c2410c;--c2:#15803d;--c3:#7e22ce;--c4:#0e7490;--c5:#a16207;--other:#7b8794;--bad:#d9480f}
@media (prefers-color-scheme:dark){:root{--page:#0f141a;--card:#182029;--ink:#e4e9ef;--quiet:#9aa7b5;--grid:#303b47;
--c0:#6aa5ff;--c1:#fb923c;--c2:#4ade80;--c3:#c084fc;--c4:#22d3ee;--c5:#facc15;--other:#8d99a6;--bad:#ff8a4c}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:16px;display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:16px;grid-auto-flow:dense}
header,section{background:var(--card);border-radius:10px;padding:16px 20px;min-width:0}
header,.wide{grid-column:1/-1}
h1{font-size:1.3rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.05rem;margin:0 0 8px}h3{font-size:.95rem;margin:18px 0 4px}
p{margin:6px 0}ul{margin:6px 0;padding-left:1.2em}.figure strong{font-size:2rem}.quiet,small,.legend{color:var(--quiet);font-size:.85rem}
header>p:nth-of-type(1){color:var(--quiet)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;text-align:left;border-bottom:1px solid var(--grid);vertical-align:top;font-weight:400;max-width:26em;
overflow-wrap:break-word}
thead th{color:var(--quiet);vertical-align:bottom}.numbers td,
.numbers thead th:not(:first-child){text-align:right;white-space:nowrap}
td small{display:block}td,th{unicode-bidi:isolate}
.cell{display:block;padding:2px 6px;border-radius:4px;background:color-mix(in srgb,var(--tone) calc(var(--share)*.7),transparent)}
.input{min-width:15em}td:has(.input){max-width:46em}
.charts{display:flex;flex-wrap:wrap;gap:12px}.charts>*{flex:1 1 260px;max-width:460px;min-width:0}
.pair{display:flex;flex-wrap:wrap;gap:8px 48px}.pair>*{min-width:0;max-width:100%}
.chart{width:100%;height:auto;display:block}svg text{fill:var(--quiet);font:11px system-ui,sans-serif}
.grid{stroke:var(--grid);stroke-width:1}
.ideal{stroke:var(--quiet);stroke-dasharray:4 4}.line{fill:none;stroke-width:2;stroke-linejoin:round}
.whisker{stroke:var(--other);stroke-width:3;stroke-linecap:round}.whisker.c0{stroke:var(--c0)}.bar{fill:var(--c0)}.faint{opacity:.35}.dot.other{fill:var(--other)}
.line.c0{stroke:var(--c0)}.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}.line.c4{stroke:var(--c4)}.line.c5{stroke:var(--c5)}
.dot.c0{fill:var(--c0)}.dot.c1{fill:var(--c1)}.dot.c2{fill:var(--c2)}.dot.c3{fill:var(--c3)}.dot.c4{fill:var(--c4)}.dot.c5{fill:var(--c5)}
.legend span{margin-right:1em;white-space:nowrap}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px}.key.c0{background:var(--c0)}.key.c1{background:var(--c1)}.key.c2{background:var(--c2)}
.key.c3{background:var(--c3)}.key.c4{background:var(--c4)}.key.c5{background:var(--c5)}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px}figure{margin:0}
.sheet img{width:100%;height:auto;display:block;border-radius:4px}figcaption{font-size:.8rem;overflow-wrap:anywhere}
.aligned{display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:14px}
.aligned img{width:100%;height:80px;border-radius:4px}
.aligned b{font-weight:400;color:var(--quiet)}del{color:var(--bad)}ins{color:var(--c0);font-weight:600}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--page);padding:10px;border-radius:6px;font-size:.88rem}summary{cursor:pointer}
@media (max-width:760px){main{grid-template-columns:minmax(0,1fr);padding:8px;gap:8px}header,section{padding:12px 14px}
th,td{padding:4px 6px}.mini{width:96px}}
@media print{body{background:none}header,section{break-inside:avoid}}
"""
