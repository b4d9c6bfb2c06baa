"""A report as one HTML file that needs nothing else: styles and charts inside, no scripts, all text escaped."""

from results.export_svg import bars
from results.export_table import METHOD, command_of, environment_of, escape, facts_of, failure_label, heading, table_of
from results.html_document import document
from results.metrics import METRICS
from results.records import Report
from results.summary import request_scores, scores_by_request, summarize, unresolved

CHARTS = {
    "decode_tps": "#0072b2",
    "ttft_s": "#d55e00",
    "peak_rss_bytes": "#009e73",
    "peak_device_bytes": "#009e73",
    "quality": "#cc79a7",
}
"""Metric → colour (Okabe and Ito); each chart says in words what it shows."""

CSS = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59636e;--line:#d5dae0;--back:#fff;--fill:#f5f7f9}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa4af;--line:#3a424b;--back:#14171a;--fill:#1d2126}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1.5rem 1rem 3rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back)}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
h3{font-size:.95rem;margin:0 0 .2rem}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.6rem 1.5rem;margin:0}
dt{font-size:.8rem;color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr));gap:1.5rem}
figure{margin:0;max-width:33rem}
svg{width:100%;height:auto;display:block}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg .value{font-weight:600}
svg .tick{font-size:11px;fill:var(--soft)}
svg .axis{stroke:var(--soft);fill:none}
svg .whisker{stroke:var(--ink);stroke-width:1.5;fill:none}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .7rem .4rem 0;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}
td.number,th.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.text{overflow-wrap:anywhere;min-width:9rem}
p,ol{max-width:45rem}
a{color:inherit}
.soft,ol{color:var(--soft);font-size:.9rem}
pre{background:var(--fill);padding:.7rem .9rem;border-radius:4px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem}
summary{cursor:pointer;overflow-wrap:anywhere}
@media print{body{max-width:none;padding:0;font-size:10pt}figure,tr,.failure{break-inside:avoid}h2{break-after:avoid}.wide{overflow:visible}}
"""


def html_page(report: Report) -> str:
    """Facts, charts, the table with notes, failures, answers, environment and the command that repeats it."""
    title = f"{report.run.suite}: {report.run.run_id}"
    facts = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts_of(report).items())
    sections = (_charts(report), _results(report), _failures(report), _answers(report), _environment(report))
    return document(
        title,
        CSS,
        f"<h1>{escape(title)}</h1>\n<dl>{facts}</dl>\n"
        + "\n".join(section for section in sections if section)
        + f"\n<h2>Reproduce</h2>\n<pre>{escape(command_of(report))}</pre>",
    )


def _charts(report: Report) -> str:
    rows = summarize(report)
    figures = []
    for name, colour in CHARTS.items():
        estimates = [(row.planned.label, row.estimates[name]) for row in rows if name in row.estimates]
        if estimates:
            drawn = bars(METRICS[name], estimates, colour)
            figures.append(f"<figure><h3>{escape(heading(METRICS[name]))}</h3>{drawn}</figure>")
    return f'<h2>At a glance</h2>\n<div class="charts">{"".join(figures)}</div>' if figures else ""


def _results(report: Report) -> str:
    table = table_of(report)
    numbers = "".join(f'<th class="number" title="{escape(one.definition)}">{escape(heading(one))}</th>' for one in table.columns)
    rows = []
    for line in table.lines:
        marks = "".join(f'<sup><a href="#note-{number}">{number}</a></sup> ' for number in line.notes)
        cells = "".join(f'<td class="number">{_stacked(cell)}</td>' for cell in (line.processes, *line.cells))
        rows.append(f'<tr><td class="text">{escape(line.label)} {marks}</td><td>{line.status}</td>{cells}</tr>')
    head = f'<tr><th>Case</th><th>Status</th><th class="number">Processes</th>{numbers}</tr>'
    notes = "".join(f'<li id="note-{number}">{escape(note)}</li>' for number, note in enumerate(table.notes, start=1))
    return (
        f'<h2>Results</h2>\n<div class="wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>\n'
        f'<p class="soft">{METHOD}</p>' + (f"\n<ol>{notes}</ol>" if notes else "")
    )


def _stacked(cell: str) -> str:
    """The interval under its value, which keeps the table narrow."""
    value, bracket, interval = escape(cell).partition(" [")
    return f'{value}<br><span class="soft">[{interval}</span>' if bracket else value


def _failures(report: Report) -> str:
    parts = []
    for failure in unresolved(report.measurements, report.failures):
        tail = f"<pre>{escape(failure.stderr_tail.strip())}</pre>" if failure.stderr_tail.strip() else ""
        told = f"<strong>{escape(failure_label(report, failure))}</strong><br>{escape(failure.message)}"
        parts.append(f'<div class="failure"><p>{told}</p>{tail}</div>')
    return "<h2>Failures</h2>\n" + "".join(parts) if parts else ""


def _answers(report: Report) -> str:
    """What the models answered in the quality passes, as far as it was kept."""
    scores = scores_by_request(report)
    parts = []
    for measurement in report.measurements:
        planned = report.run.plan_of(measurement.case_id)
        for request in measurement.requests if planned.case.purpose == "quality" else ():
            if request.content_policy in ("full", "redacted") and request.output is not None:
                items = request_scores(scores.get(request.request_id, ()))
                judged = ", ".join(f"{METRICS[item].label} {value:.2f}" for item, value in items.items())
                parts.append(
                    f"<details><summary>{escape(planned.label)}: {escape(request.prompt or '')}</summary>"
                    f'<pre>{escape(request.output)}</pre><p class="soft">{escape(judged)}</p></details>'
                )
    return "<h2>Answers</h2>\n" + "".join(parts) if parts else ""


def _environment(report: Report) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="text">{escape(value)}</td><td>{"must agree" if hard else ""}</td></tr>'
        for name, value, hard in environment_of(report)
    )
    head = "<tr><th>Fact</th><th>Value</th><th>To compare</th></tr>"
    return f'<h2>Environment</h2>\n<div class="wide"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'
