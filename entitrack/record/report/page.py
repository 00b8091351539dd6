"""The page: what was asked at a glance, circuits, and a section a method, runs side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

from entitrack.core.circuits import Circuit
from entitrack.core.drawing import BASE, LEFT_OUT, RANDOM, TESTED, Drawing, HeatMap, Rows
from entitrack.methods import method_names, question_of
from entitrack.record.figures.captions import caption
from entitrack.record.report.circuits import draw_circuit
from entitrack.record.report.figures import draw_figure, picture
from entitrack.record.report.marks import hue_rules
from entitrack.record.report.markup import Markup, tag
from entitrack.record.report.prompts import prompts_section
from entitrack.record.report.reading import Run

_NUMBERS = re.compile(r"(?<![\w.])-?(?:\d*\.\d+e-?\d+|\d*\.\d+%|\d*\.\d{2,}(?: \[[^\]]*\])?)")
"""What stands bold in a claim: numbers and their intervals, not heads such as 1.4."""
_ORDER = (
    "evaluate", "path_patching", "stability", "attribution", "compare", "positions", "faithfulness", "circuit_curve",
    "minimality", "completeness", "attention_knockout", "ablation", "desiderata", "dcm", "activation_patching", "cmap",
    "cmap_order", "cmap_matrix", "cmap_map",
)  # fmt: skip
"""In which order sections stand; methods that are not here come after them."""
_SHARED = tag(
    "svg",
    tag(
        "defs",
        tag(
            "pattern",
            tag("rect", width=6, height=6, fill="var(--tint)"),
            tag("line", x1=0, y1=0, x2=0, y2=6, stroke="var(--soft)", stroke_width=1.4, stroke_opacity=0.55),
            id="hatched",
            width=6,
            height=6,
            patternUnits="userSpaceOnUse",
            patternTransform="rotate(45)",
        ),
        tag("marker", tag("path", d="M0 0L8 4L0 8z"), id="arrow", viewBox="0 0 8 8", refX=6, refY=4, markerWidth=7,
            markerHeight=7, orient="auto"),
    ),
    class_="hidden",
    aria_hidden="true",
)  # fmt: skip
"""What pictures refer to: hatching for cells without a value, and the head of an arrow."""


def report(runs: Sequence[Run], title: str = "entitrack report") -> str:
    """One file of HTML that holds everything about some runs."""
    by_method = {method: [run for run in runs if run.result.method == method] for method in _methods(runs)}
    sections = [_glance(by_method), *_circuits(runs), *(_section(*entry) for entry in by_method.items())]
    names = [("glance", "At a glance"), *([("circuits", "Circuits")] if _circuits_of(runs) else [])]
    names += [(method, method) for method in by_method]
    links = (tag("li", tag("a", name, href=f"#{at}")) for at, name in names)
    inside = [_header(runs, title), tag("nav", tag("ol", links), aria_label="Sections")]
    inside += [tag("main", sections, id="main"), _footer(runs)]
    asked = [tag("div", id="tip", role="tooltip"), tag("div", id="told", class_="hidden", aria_live="polite")]
    skip = tag("a", "Skip to the results", href="#main", class_="skip")
    script = Markup(f"<script>{_file('script.js')}</script>")
    guard = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    meta = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=guard),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
    ]
    body = tag("body", skip, _SHARED, tag("div", inside, class_="page"), asked, script)
    page = tag("html", tag("head", meta, tag("title", title), _style(runs)), body, lang="en")
    return f"<!doctype html>\n{page}\n"


def _methods(runs: Sequence[Run]) -> list[str]:
    there = {run.result.method for run in runs}
    return [name for name in dict.fromkeys((*_ORDER, *method_names())) if name in there]


def _file(name: str) -> str:
    return (files("entitrack.record.report") / name).read_text(encoding="utf-8")


def _style(runs: Sequence[Run]) -> Markup:
    """Rules for paper and for dark pages; a reader's choice comes before the system's."""
    light, dark = hue_rules({BASE, LEFT_OUT, RANDOM, TESTED, *_hues(runs)})
    night = f"{_file('dark.css')}"
    cells = (
        ".cell{fill:var(--dark)}.ring{stroke:#fff}svg .value{fill:#e8ecf1}.right{color:#5fd0a8}.wrong{color:#ff8a80}"
    )
    chosen = "".join(f':root[data-theme="dark"] {rule}' for rule in re.findall(r"[^{}]+\{[^{}]*\}", cells + dark))
    system = "".join(
        f':root:not([data-theme="light"]) {rule}' for rule in re.findall(r"[^{}]+\{[^{}]*\}", cells + dark)
    )
    return Markup(
        f"<style>{_file('style.css')}{light}"
        f':root[data-theme="dark"]{{{night}}}@media screen{{{chosen}}}'
        f'@media screen and (prefers-color-scheme:dark){{:root:not([data-theme="light"]){{{night}}}{system}}}</style>'
    )


def _hues(runs: Sequence[Run]) -> set[str]:
    drawings = (run.result.drawing() for run in runs)
    return {hue for drawing in drawings if drawing for hue in _drawn_hues(drawing)}


def _drawn_hues(drawing: Drawing) -> set[str]:
    found: set[str] = set()
    for panel in drawing.panels:
        if isinstance(panel, HeatMap):
            continue
        found |= {line.hue for line in panel.lines}
        if isinstance(panel, Rows):
            found |= {mark.hue for row in panel.rows for mark in row.marks}
        else:
            found |= {curve.hue for curve in panel.curves} | {band.hue for band in panel.bands}
    return found


def _header(runs: Sequence[Run], title: str) -> Markup:
    families = dict.fromkeys(
        str(run.result.provenance.get("config", {}).get("model", {}).get("name", "")) for run in runs
    )
    dates = sorted(str(run.result.provenance.get("date", ""))[:10] for run in runs)
    when = " to ".join(dict.fromkeys(filter(None, (dates[0], dates[-1]))))
    many = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    told = " \u00b7 ".join(filter(None, (many, ", ".join(filter(None, families)), when)))
    words = tag("div", tag("h1", title), tag("p", told))
    return tag("header", words, tag("button", "Colours: auto", id="theme", type="button", hidden=True), class_="top")


def _glance(by_method: dict[str, list[Run]]) -> Markup:
    """A line a run: what was found."""
    rows = [
        tag("tr", _named(method, run), tag("td", _claim(run))) for method, runs in by_method.items() for run in runs
    ]
    head = tag("tr", *(tag("th", name, scope="col") for name in ("method", "what was found [95 % interval]")))
    table = tag("div", tag("table", tag("thead", head), tag("tbody", rows), class_="glance"), class_="wide")
    return tag("section", tag("h2", "At a glance"), table, id="glance")


def _named(method: str, run: Run) -> Markup:
    return tag("th", tag("a", method, href=f"#{method}"), tag("span", run.about, class_="of"), scope="row")


def _claim(run: Run) -> list[str | Markup]:
    """A method's claim, its numbers in bold."""
    claim = run.result.claim()
    parts: list[str | Markup] = []
    end = 0
    for found in _NUMBERS.finditer(claim):
        parts += [claim[end : found.start()], tag("b", found.group())]
        end = found.end()
    return [*parts, claim[end:]]


def _circuits_of(runs: Sequence[Run]) -> list[tuple[Run, Circuit]]:
    found = []
    for run in runs:
        circuit = run.result.artefacts.get("circuit")
        if isinstance(circuit, Circuit) and circuit.size:
            found.append((run, circuit))
    return found


def _circuits(runs: Sequence[Run]) -> list[Markup]:
    """The circuits that runs found, as pictures."""
    found = _circuits_of(runs)
    if not found:
        return []
    articles = []
    for run, circuit in found:
        scored = run.result if run.result.method == "path_patching" else None
        name = f"Circuit of {circuit.size} heads, found by {run.result.method}"
        drawn, width, height = draw_circuit(circuit, scored)
        told = "Columns are groups, those that act first at the left; arcs say through what a group sends to which."
        deep = " The deeper a head, the stronger its score." if scored else ""
        shown = tag("figure", picture(drawn, width, height, name), tag("figcaption", told + deep), class_="whole")
        articles.append(tag("article", tag("p", run.about, class_="about"), tag("h3", name), shown))
    question = tag("p", "Which heads, at which positions, and who sends to whom?", class_="question")
    return [tag("section", tag("h2", "Circuits"), question, tag("div", articles, class_="runs"), id="circuits")]


def _section(method: str, runs: Sequence[Run]) -> Markup:
    articles = [_article(run) for run in runs]
    side = "runs several" if len(runs) > 1 else "runs"
    question = tag("p", question_of(method), class_="question")
    return tag("section", tag("h2", method), question, tag("div", articles, class_=side), id=method)


def _article(run: Run) -> Markup:
    """A run: its claim, figure, prompts, tables, command, and what is not to be concluded."""
    result = run.result
    drawing = result.drawing()
    parts = [tag("p", run.about, class_="about"), tag("p", _claim(run), class_="claim")]
    if drawing is not None:
        parts.append(draw_figure(drawing, caption(result, drawing)))
    limits = (tag("li", limit) for limit in result.limits())
    parts.append(tag("div", tag("strong", "Not to be concluded"), tag("ul", limits), class_="limits"))
    tables = [tag("div", Markup(table.to_html()), class_="wide") for table in result.tables]
    notes = tag("ul", (tag("li", note) for note in result.notes), class_="notes")
    parts.append(tag("details", tag("summary", "All numbers, as tables"), tables, notes, class_="more"))
    prompts = prompts_section(result)
    parts += [prompts] if prompts is not None else []
    command = str(result.provenance.get("command", "entitrack.Study, from Python"))
    told = tag("p", f"{run.folder}, {str(result.provenance.get('date', ''))[:16].replace('T', ' ')}", class_="about")
    parts.append(tag("details", tag("summary", "How to get this again"), tag("pre", command), told, class_="more"))
    return tag("article", parts, data_method=result.method)


def _footer(runs: Sequence[Run]) -> Markup:
    versions = runs[0].result.provenance.get("versions", {})
    told = ", ".join(
        f"{name} {versions[name]}" for name in ("entitrack", "torch", "transformers", "nnsight") if name in versions
    )
    read = (
        "Intervals are of 95 %, over contexts. Colours mean the same in all figures. A value is told where the pointer"
    )
    return tag("footer", tag("p", f"{read} is, or by arrow keys in a figure."), tag("p", told))
