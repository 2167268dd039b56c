"""The bare page: formatted numbers, tables, figures, and the HTML around them.

Everything a user may have written (column names, file names) passes through :func:`escape` or :func:`data_block`; a
page refers to nothing outside itself. Its content security policy forbids the browser to load anything, and to run any
script but its own, the files of ``script`` joined, which stands at the end of the page and is known by its hash.
"""

import base64
import hashlib
import html
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from probam.data.writing import write_atomically

__all__ = [
    "Section",
    "count",
    "data_block",
    "enumerated",
    "escape",
    "figure",
    "first_named",
    "folded",
    "number",
    "page",
    "percent",
    "spelled",
    "table",
    "with_error",
    "write_page",
]

_PARTS = ("elements", "tables", "points", "memories", "axes", "matrices", "recall", "start")
_SCRIPT = "\n".join(
    [
        '"use strict";(() => {',
        *((Path(__file__).parent / "script" / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS),
        "})();",
    ]
)
_TO_PERCENT = re.compile(r"(?<=\d) %")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def escape(text: object) -> str:
    """Text for HTML, inside elements and attributes alike."""
    return html.escape(str(text), quote=True)


def number(value: object, digits: int = 4) -> str:
    r"""A number in at most ``digits`` significant digits; an en dash where there is none.

    >>> number(0.0012345), number(-1234567.0), number(272), number(1e-17, 2), number(None)
    ('0.001234', '−1.235\u202f×\u202f10⁶', '272', '1\u202f×\u202f10⁻¹⁷', '–')
    """
    if value is None or not isinstance(value, int | float) or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, int):
        return count(value)
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -4 < exponent < 6:
        text = f"{value:.{max(digits - 1 - exponent, 0)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        mantissa = f"{value:.{digits - 1}e}".split("e")[0]
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{mantissa}\u202f×\u202f10{str(exponent).translate(_SUPERSCRIPT)}"
    return text.replace("-", "−")


def with_error(value: float, error: float, digits: int = 4) -> str:
    """A value and its error, both to two digits of the error; ``digits`` of the value where there is no error.

    >>> with_error(13.50123, 0.19471), with_error(1234.5, 31.2), with_error(2.5, 0.0)
    ('13.50 ± 0.19', '1234 ± 31', '2.5')
    """
    if not math.isfinite(error) or error <= 0:
        return number(value, digits)
    places = 1 - math.floor(math.log10(float(f"{error:.1e}")))
    if not -4 <= places <= 6:
        return f"{number(value)} ± {number(error, 2)}"
    places = max(places, 0)
    return f"{value:.{places}f} ± {error:.{places}f}".replace("-", "−")


def percent(share: float) -> str:
    """A share as a percentage that never claims certainty it does not have.

    >>> percent(0.775), percent(0.0004), percent(0.9996), percent(1.0), percent(0.0)
    ('78 %', 'under 0.1 %', 'over 99.9 %', '100 %', '0 %')
    """
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    digits = 1 if 0 < share < 0.0995 or 0.9905 < share < 1 else 0
    text = f"{100 * share:.{digits}f}"
    return f"{text.removesuffix('.0')} %"


def count(value: int) -> str:
    """A whole number with thin spaces between thousands from five digits on."""
    text = f"{value:,}" if abs(value) >= 10_000 else str(value)
    return text.replace(",", "\u202f").replace("-", "−")


def spelled(value: int, one: str = "", many: str = "") -> str:
    """A count in words up to nine, in digits beyond, with the noun that goes with it.

    >>> spelled(3), spelled(12), spelled(1, "memory", "memories"), spelled(0, "memory", "memories")
    ('three', '12', 'one memory', 'no memories')
    """
    small = ("no" if many else "none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    words = small[value] if 0 <= value < len(small) else count(value)
    return f"{words} {one if value == 1 else many}".rstrip()


def enumerated(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> enumerated(["a"]), enumerated(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def first_named(names: Sequence[str], most: int = 4) -> str:
    """The first few names, and how many more there are.

    >>> first_named(["a", "b"]), first_named(["a", "b", "c"], most=1)
    ('a, b', 'a and 2 more')
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str,
    marks: Sequence[str] = (),
    words: Sequence[int] = (),
) -> str:
    """A table; the first column is the header of its row.

    Args:
        header: HTML of the cells of the first row; an empty one is no header.
        rows: HTML of the cells.
        caption: HTML, without the full stop.
        marks: CSS classes of the rows; rows beyond its length have none.
        words: positions of the columns whose text may wrap.
    """
    kinds = [' class="text"' if position in words else "" for position in range(len(header))]
    columns = zip(header, kinds, strict=True)
    head = "".join(f'<th scope="col"{kind}>{cell}</th>' if cell else "<td></td>" for cell, kind in columns)
    body = []
    for position, row in enumerate(rows):
        mark = f' class="{marks[position]}"' if position < len(marks) and marks[position] else ""
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        body.append(f'<tr{mark}><th scope="row">{row[0]}</th>{cells}</tr>')
    return (
        f'<p class="caption">{caption}.</p><div class="wide" tabindex="0"><table aria-label="{caption}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def figure(svg: str, caption: str) -> str:
    """A figure with its caption, both HTML."""
    return f'<figure><div class="plot" tabindex="0">{svg}</div><figcaption>{caption}</figcaption></figure>'


def folded(summary: str, body: str) -> str:
    """Details that open on demand, and in print; both arguments are HTML."""
    return f"<details><summary>{summary}</summary>{body}</details>"


def data_block(name: str, value: object) -> str:
    r"""Data for the page's script, as an element that is never run; no text in it can close the element.

    Args:
        name: id of the element.
        value: anything that JSON can hold.

    >>> data_block("points", ["</script>"])
    '<script type="application/json" id="points">["\\u003c/script\\u003e"]</script>'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def _policy() -> str:
    """What the browser may do: show styles and images of the page itself, and run the page's own script."""
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"


class Section(NamedTuple):
    """A part of the page; ``body`` is HTML."""

    name: str  # id, a word
    title: str
    body: str


def page(title: str, *, lead: str, verdict: str, sections: Sequence[Section], kicker: str = "probam report") -> str:
    """The whole document.

    Args:
        title: plain text.
        lead: HTML below the title.
        verdict: HTML of the box below the lead.
        sections: in their order; a list of contents links to them.
        kicker: plain text of the small line above the title.
    """
    lead, verdict, *bodies = (_TO_PERCENT.sub("\u202f%", text) for text in (lead, verdict, *(s.body for s in sections)))
    contents = "".join(f'<li><a href="#{section.name}">{escape(section.title)}</a></li>' for section in sections)
    body = "".join(
        f'<section id="{section.name}" aria-labelledby="{section.name}-title">'
        f'<h2 id="{section.name}-title">{escape(section.title)}</h2>{body}</section>'
        for section, body in zip(sections, bodies, strict=True)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_CSS}</style></head>'
        f'<body><header><p class="kicker">{escape(kicker)}</p><h1>{escape(title)}</h1>{lead}{verdict}</header>'
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav><main>{body}</main>'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def write_page(text: str, path: str | os.PathLike[str]) -> None:
    """Write a document as a file, completely or not at all.

    Raises :class:`probam.errors.InputError` where ``path`` cannot be written.
    """
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


_CSS = """
:root{color-scheme:light dark;--paper:#fefefd;--ink:#1b2027;--muted:#5c6773;--rule:#d5dbe1;--soft:#f3f5f7;
--accent:#0067a3;--good:#12703f;--note:#0067a3;--warning:#8f5600;--problem:#b3261e;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"Noto Sans",sans-serif;
--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media (prefers-color-scheme:dark){:root{--paper:#14181d;--ink:#e8ebee;--muted:#a3adb8;--rule:#343c45;--soft:#1d232a;
--accent:#6fb7e6;--good:#63c58d;--note:#6fb7e6;--warning:#e3a94a;--problem:#ff8f84}}
*{box-sizing:border-box}
html{font-family:var(--sans);background:var(--paper);color:var(--ink);line-height:1.55;-webkit-text-size-adjust:100%}
body{max-width:56rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:clamp(1.5rem,1.1rem + 2vw,2.1rem);line-height:1.2;margin:.1rem 0 .6rem;overflow-wrap:anywhere;
text-wrap:balance}
h2{font-size:1.3rem;line-height:1.25;margin:0 0 .7rem}
h3{font-size:1.02rem;margin:1.4rem 0 .4rem}
p,ul,dl{margin:0 0 .9rem;max-width:44rem}
a{color:var(--accent)}
.kicker{font-size:.8rem;letter-spacing:.08em;text-transform:uppercase;color:var(--muted);margin:0}
.lead{font-size:1.06rem;color:var(--muted)}
.verdict{border-left:5px solid var(--note);background:var(--soft);padding:.9rem 1.1rem;border-radius:0 .4rem .4rem 0;
margin:1.2rem 0;font-size:1.06rem;max-width:48rem}
.verdict p{margin:0}.verdict p+p{margin-top:.5rem}
.verdict.good{border-color:var(--good)}.verdict.warning{border-color:var(--warning)}
.verdict.problem{border-color:var(--problem)}
nav ol{display:flex;flex-wrap:wrap;gap:.15rem 1.1rem;list-style:none;padding:.7rem 0;margin:0 0 .5rem;
border-block:1px solid var(--rule);font-size:.9rem}
section{margin-top:2.6rem;scroll-margin-top:1rem}
.advice{list-style:none;padding:0;max-width:46rem}
.advice li{display:grid;grid-template-columns:6.2rem 1fr;gap:.2rem .9rem;padding:.55rem 0;
border-top:1px solid var(--rule)}
.advice li:last-child{border-bottom:1px solid var(--rule)}
.level{font-weight:650;font-size:.9rem}
.good .level,.passed{color:var(--good)}.note .level{color:var(--note)}
.warning .level{color:var(--warning)}.problem .level,.failed{color:var(--problem)}
.passed,.failed{font-weight:650}
.wide,.plot{overflow-x:auto}
.wide{background:linear-gradient(to right,var(--paper) 30%,transparent) left/2.5rem 100% no-repeat local,
linear-gradient(to left,var(--paper) 30%,transparent) right/2.5rem 100% no-repeat local,
linear-gradient(to right,var(--muted),transparent) left/.5rem 100% no-repeat scroll,
linear-gradient(to left,var(--muted),transparent) right/.5rem 100% no-repeat scroll}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;margin:.3rem 0 1rem}
.caption{color:var(--muted);font-size:.88rem;margin:1rem 0 .3rem}
th,td{padding:.32rem .85rem .32rem 0;text-align:right;vertical-align:top;border-bottom:1px solid var(--rule);
white-space:nowrap}
th:first-child{text-align:left}td.text,th.text{text-align:left;white-space:normal;min-width:9rem}
thead :is(th,td){font-weight:600;color:var(--muted);border-bottom:1.5px solid var(--muted);vertical-align:bottom}
tbody th{font-weight:500}
tr.faint{color:var(--muted)}tr.flag td,tr.flag th{background:color-mix(in srgb,var(--warning) 12%,transparent)}
.sort{all:unset;position:relative;cursor:pointer}.sort::after{content:"▿";position:absolute;left:100%;bottom:0;
margin-left:.1em;font-size:.85em;opacity:.6}.sort:hover{color:var(--accent)}
[aria-sort] .sort{color:var(--ink)}[aria-sort] .sort::after{content:"▾";opacity:1}
[aria-sort=ascending] .sort::after{content:"▴"}
.bar{display:flex;flex-wrap:wrap;align-items:center;gap:.35rem .45rem;margin:.5rem 0;font-size:.88rem;
color:var(--muted)}
.bar :is(button,select){font:inherit;color:var(--ink);background:var(--paper);border:1px solid var(--muted);
border-radius:1rem;padding:.12rem .65rem;min-height:1.75rem;max-width:16rem;cursor:pointer}
.bar [aria-pressed=true]{background:var(--ink);color:var(--paper)}.bar [hidden],.bar[hidden]{display:none}
.bar label{display:inline-flex;gap:.3rem;align-items:center}.film input{flex:1 1 8rem;max-width:16rem;
accent-color:var(--accent)}
.choice{cursor:pointer}.choice:hover,.chosen{background:var(--soft)}.chosen th:first-child{font-weight:700}
.tip{position:absolute;z-index:9;pointer-events:none;background:var(--ink);color:var(--paper);font-size:.82rem;
padding:.2rem .55rem;border-radius:.3rem;max-width:min(20rem,90vw);overflow-wrap:anywhere}
.ring{position:absolute;z-index:8;pointer-events:none;width:18px;height:18px;margin:-9px;border-radius:50%;
border:2px solid var(--ink);outline:1px solid var(--paper)}
svg [tabindex]:focus-visible{outline:none}
@media screen{svg .away{opacity:.07!important}.other>svg:not(.scatter),.other~.film{display:none}
.enlarged>[id*="-matplotlib.axis"]{visibility:hidden}}
.scatter text{font-size:12.5px}.scatter text:not(.number){fill:var(--ink)}
.scatter .number{font-size:10.5px;font-weight:700}
.scatter .frame{fill:none;stroke:var(--muted)}.scatter .disc{stroke:#fff}
.runner{fill:#000;stroke:#fff}.lens{cursor:zoom-in}.lens image{image-rendering:pixelated}
.lens:focus{outline:none}
.lens :is(.cut-line,.selection,.cell,.edge){fill:none;stroke:#22272e;stroke-width:.7;vector-effect:non-scaling-stroke}
.lens .edge{stroke:none}.lens:focus-visible .edge{stroke:#0067a3;stroke-width:6}.lens .cell{stroke-width:2}
.lens .selection{fill:#e69f00;fill-opacity:.25;stroke:#d55e00;stroke-width:2}
.dot{display:inline-block;width:.72em;height:.72em;border-radius:50%;margin-right:.45em}
figure{margin:1rem 0 1.4rem}
figure svg{display:block;width:100%;height:auto;max-width:calc(var(--inches)*6.4rem)}
@media screen and (prefers-color-scheme:dark){svg.map{--ink:#1b2027;--muted:#5c6773;--rule:#d5dbe1;--paper:#fefefd;
filter:invert(1) hue-rotate(180deg)}}
figcaption{font-size:.88rem;color:var(--muted);max-width:44rem;margin-top:.4rem}
dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.2rem}
dl.facts dt{color:var(--muted)}dl.facts dd{margin:0;overflow-wrap:anywhere}
dl.words dt{font-weight:650;margin-top:.6rem}dl.words dd{margin:0}
code,pre{font-family:var(--mono);font-size:.86rem}
pre{background:var(--soft);border:1px solid var(--rule);border-radius:.4rem;padding:.8rem 1rem;white-space:pre-wrap;
overflow-wrap:anywhere}
details{margin:.6rem 0 1rem}summary{cursor:pointer;color:var(--accent);width:max-content;max-width:100%}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media (min-width:80rem){body{max-width:76rem;display:grid;grid-template-columns:14rem minmax(0,1fr);column-gap:3rem}
header,main{grid-column:2}nav{grid-column:1;grid-row:1/span 2;position:sticky;top:1.5rem;align-self:start;
max-height:calc(100vh - 3rem);overflow-y:auto}
nav ol{flex-direction:column;gap:.45rem;border:0;border-right:1px solid var(--rule);padding-right:1rem}}
@media (max-width:38rem){body{padding:1.4rem 1rem 3rem}.plot svg{min-width:calc(var(--inches)*3.9rem)}
.advice li{grid-template-columns:1fr}dl.facts{column-gap:.8rem}}
.plot::after{content:"scroll sideways for the rest of the picture";position:sticky;left:0;display:none;font-size:.8rem;
color:var(--muted)}.plot.cut::after{display:block}
@media (max-width:26rem){.plot:not(.whole)::after{display:block}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--muted:#444;--rule:#ccc;--soft:#f5f5f5;--accent:#004b78;
--good:#0d5a32;--note:#004b78;--warning:#744600;--problem:#8f1e18}
html{font-size:10.5pt}body{display:block;max-width:none;padding:0}
details::details-content{content-visibility:visible}summary{list-style:none}
nav,.bar,.lens,.scatter.scatter,.tip,.ring,.sort::after,.plot.plot::after{display:none!important}section{margin-top:1.6rem}
figure,tr,.verdict,.advice li,pre{break-inside:avoid}h2,h3,.caption{break-after:avoid}.wide,.plot{overflow:visible}
a{color:inherit;text-decoration:none}}
"""
