"""The report as one HTML page that needs nothing else: failures, features, and the matrix of requirements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from conformance.trace import prose
from conformance.verdict import Result, Verdict
from tgv_format.tables import load

_GLYPHS = {
    Verdict.PASS: "✓",
    Verdict.WRONG_OUTPUT: "≠",
    Verdict.REJECTED_VALID: "✗",
    Verdict.ACCEPTED_INVALID: "!",
    Verdict.WRONG_ERROR: "e",
    Verdict.CRASH: "†",
    Verdict.TIMEOUT: "t",
    Verdict.OUT_OF_MEMORY: "m",
    Verdict.UNSUPPORTED: "u",
}

_STYLE = """
:root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--back:#fff;--good:#1a7f37;
--bad:#cf222e;--warn:#9a6700;--head:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--back:#0d1117;
--good:#3fb950;--bad:#f85149;--warn:#d29922;--head:#151b23}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:76rem;
margin:0 auto;padding:1.5rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
p{margin:.3rem 0}.soft{color:var(--soft)}code{font-family:ui-monospace,monospace;font-size:.92em;
overflow-wrap:anywhere}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{background:var(--head);font-weight:600;position:sticky;top:0}td.n,th.n{text-align:right;
font-variant-numeric:tabular-nums}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem;margin:1rem 0}.tile{border:1px solid var(--line);
border-radius:6px;padding:.4rem .8rem}.tile b{display:block;font-size:1.3rem}
.v{display:inline-block;width:1.35em;height:1.35em;line-height:1.35em;text-align:center;border-radius:3px;
margin:1px;color:#fff;background:var(--bad);font-size:.8rem;cursor:default;text-decoration:none}
.v.pass{background:var(--good)}.v.unsupported{background:var(--soft)}.v.listed{background:var(--warn)}
td.id{white-space:nowrap}dl{display:grid;grid-template-columns:max-content 1fr;gap:0 .8rem;margin:.3rem 0}
dt{color:var(--soft)}dd{margin:0}
details{border-bottom:1px solid var(--line);padding:.3rem 0}summary{cursor:pointer}
input{font:inherit;padding:.3rem .5rem;border:1px solid var(--line);border-radius:6px;background:var(--back);
color:var(--ink);width:min(24rem,100%)}
"""

_SCRIPT = """
const box=document.getElementById('filter');
box.addEventListener('input',()=>{const word=box.value.toLowerCase();
for(const row of document.querySelectorAll('#matrix tbody tr'))
row.hidden=!row.textContent.toLowerCase().includes(word)&&!row.dataset.names.includes(word)});
"""


def render(results: Sequence[Result], report: dict[str, Any]) -> str:
    """The page; what comes from the decoder is escaped."""
    surprises = [result for result in results if not result.as_expected]
    listed = [r for r in results if r.as_expected and r.verdict is not Verdict.PASS]
    colour = "good" if report["ok"] else "bad"
    end = "all results are as expected" if report["ok"] else f"{len(surprises)} results are not as expected"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(report['suite'])} conformance</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(report['suite'])} conformance</h1>",
        f'<p class="soft"><code>{escape(report["decoder"])}</code></p>',
        f'<p><b style="color:var(--{colour})">{end}</b>: '
        f"{len(results)} vectors in {report['seconds']:.1f} s</p>",
        _tiles(report["totals"]),
        _failures("Not as expected", surprises, open_first=True),
        "<h2>Features</h2>",
        _counts(report["features"], report["totals"]),
        "<h2>Requirements</h2>",
        _matrix(results),
        # There may be hundreds, of little interest.
        _failures("Failures that are listed as expected", listed),
        f"<script>{_SCRIPT}</script></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _tiles(totals: dict[str, int]) -> str:
    tiles = (
        f'<div class="tile"><b>{totals[verdict.value]}</b>{_mark(verdict)} {verdict.words}</div>'
        for verdict in Verdict
        if totals[verdict.value] or verdict is Verdict.PASS
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _mark(verdict: Verdict) -> str:
    return f'<span class="v {verdict.value}">{_GLYPHS[verdict]}</span>'


def _failures(title: str, results: Sequence[Result], open_first: bool = False) -> str:
    if not results:
        return ""
    rows = []
    for number, result in enumerate(results):
        vector = result.vector
        facts = {
            "tests": vector.tests,
            "requirements": ", ".join(vector.requirements),
            "said": result.message,
            **{name.replace("_", " "): value for name, value in _divergence(result)},
        }
        if result.expected is not Verdict.PASS and not result.as_expected:
            facts["expected verdict"] = result.expected.words
        rows.append(
            f'<details id="{escape(vector.name)}"{" open" if open_first and number == 0 else ""}><summary>'
            f"{_mark(result.verdict)} <b>{escape(vector.name)}</b> "
            f'<span class="soft">{result.verdict.words}: {escape(vector.description)}</span></summary><dl>'
            + "".join(
                f"<dt>{escape(k)}</dt><dd><code>{escape(str(v))}</code></dd>"
                for k, v in facts.items()
                if v != ""
            )
            + "</dl></details>"
        )
    return f"<h2>{title}</h2>" + "".join(rows)


def _divergence(result: Result) -> Iterable[tuple[str, Any]]:
    return result.divergence.to_json().items() if result.divergence is not None else ()


def _counts(features: dict[str, dict[str, int]], totals: dict[str, int]) -> str:
    shown = [verdict for verdict in Verdict if totals[verdict.value] or verdict is Verdict.PASS]
    head = "".join(f'<th class="n">{verdict.words}</th>' for verdict in shown)
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{sum(counts.values())}</td>'
        + "".join(f'<td class="n">{counts[verdict.value] or ""}</td>' for verdict in shown)
        + "</tr>"
        for name, counts in features.items()
    )
    return (
        f'<div class="scroll"><table><thead><tr><th>feature</th><th class="n">vectors</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _matrix(results: Sequence[Result]) -> str:
    by_requirement: dict[str, list[Result]] = {}
    for result in results:
        for requirement in result.vector.requirements:
            by_requirement.setdefault(requirement, []).append(result)
    rows = []
    for row in load("requirements")["requirements"]:
        found = by_requirement.get(row["id"], [])
        cells = "".join(map(_cell, found)) or '<span class="soft">no vector in this run</span>'
        names = escape(" ".join(f"{result.vector.name} {result.verdict.words}" for result in found).lower())
        rows.append(
            f'<tr data-names="{names}"><td class="id"><b>{row["id"]}</b><br>'
            f'<span class="soft">clause {row["clause"]}</span></td>'
            f"<td>{prose(row['text'])}</td><td>{cells}</td></tr>"
        )
    legend = " ".join(f"{_mark(verdict)} {verdict.words}" for verdict in Verdict)
    return (
        f'<p class="soft">{legend}. A square is a vector; yellow: listed as failing.</p>'
        '<p><input id="filter" placeholder="Filter: requirement, vector, verdict" aria-label="Filter"></p>'
        '<div class="scroll"><table id="matrix"><thead><tr><th>identifier</th><th>requirement</th>'
        f"<th>vectors</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(result: Result) -> str:
    verdict, name = result.verdict, escape(result.vector.name)
    listed = " listed" if result.as_expected and verdict is not Verdict.PASS else ""
    title = f'title="{name}: {verdict.words}"'
    if verdict is Verdict.PASS and result.as_expected:
        return f'<span class="v pass" {title}>{_GLYPHS[verdict]}</span>'
    return f'<a class="v {verdict.value}{listed}" href="#{name}" {title}>{_GLYPHS[verdict]}</a>'
