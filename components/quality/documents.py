"""Data Docs: what every expectation found, as pages that need no server and no network.

Great Expectations renders the pages. The styles, scripts and pictures that its template takes from other
hosts are left out, and a style sheet of our own stands in, so that they look the same on any machine.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from components.quality.run import Failure

INDEX = "index.html"
_REMOTE = re.compile(
    r"<script\b.*?</script>|<link\b[^>]*>|<img\b[^>]*>|<!--.*?-->|<p>Stay current on everything GX.*?</p>",
    re.DOTALL | re.IGNORECASE,
)
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;background:#fff;margin:0}
main,.container-fluid{max-width:1200px;margin:0 auto;padding:24px}
h1{font-size:24px}h2,h3,h4,h5{margin:18px 0 8px}
table{border-collapse:collapse;width:100%;margin:8px 0 20px}
th,td{border:1px solid #d8dee6;padding:6px 10px;text-align:left;vertical-align:top;overflow-wrap:break-word}
th{background:#f3f6f9}code,pre{font-size:13px}a{color:#0b62c4}
.critical,.text-danger{color:#b3261e}.warning,.text-warning{color:#8a5a00}.met,.text-success{color:#1b7f3b}
.modal,.navbar,.sticky,#sidebar,.collapse:not(.show),.d-none,.cooltip .top{display:none}
.card,.alert{border:1px solid #d8dee6;border-radius:6px;padding:10px 14px;margin:8px 0}
.badge{background:#e8eef5;border-radius:4px;padding:1px 6px;margin:0 2px}
ul{padding-left:20px}.row{display:block}footer{display:none}
.fa-check-circle::before{content:"✓"}.fa-times::before{content:"✗"}.fa-exclamation-triangle::before{content:"!"}
i{font-style:normal;font-weight:bold}
"""


def write(
    results: Mapping[str, ExpectationSuiteValidationResult],
    failed: Sequence[Failure],
    folder: Path,
    interval: str,
) -> Path:
    """Write a page per suite and an index of them; answers with the index."""
    folder.mkdir(parents=True, exist_ok=True)
    view = DefaultJinjaPageView()
    for name, result in results.items():
        document = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
        (folder / f"{name}.html").write_text(_standing_alone(view.render(document)))
    (folder / INDEX).write_text(_index(results, failed, interval))
    return folder / INDEX


def _standing_alone(page: str) -> str:
    """A page without what other hosts would have to send."""
    back = f'<main><a href="{INDEX}">All suites</a></main>'
    kept = _REMOTE.sub("", page)
    kept = re.sub(r"url\('https://[^']*'\)", "none", kept)
    return kept.replace("</head>", f"<style>{_STYLE}</style></head>").replace("<body>", f"<body>{back}", 1)


def _index(
    results: Mapping[str, ExpectationSuiteValidationResult], failed: Sequence[Failure], interval: str
) -> str:
    suites = "".join(
        f'<tr><td><a href="{name}.html">{name}</a></td><td>{len(result.results)}</td>'
        f"<td>{_verdict(name, failed)}</td></tr>"
        for name, result in results.items()
    )
    rows = "".join(_failure_row(failure) for failure in failed)
    found = (
        "<h2>Not met</h2><table><tr><th>severity</th><th>suite</th><th>expectation</th><th>column</th>"
        f"<th>expected</th><th>observed</th></tr>{rows}</table>"
        if failed
        else ""
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="UTF-8"><title>Data quality</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>Data quality of {escape(interval)}</h1>"
        f"<table><tr><th>suite</th><th>expectations</th><th>verdict</th></tr>{suites}</table>{found}"
        "</main></body></html>\n"
    )


def _failure_row(failure: Failure) -> str:
    cells = (failure.suite, failure.expectation, failure.column, failure.expected, failure.observed)
    return (
        f'<tr><td class="{failure.severity}">{failure.severity}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )


def _verdict(suite: str, failed: Sequence[Failure]) -> str:
    mine = [failure.severity for failure in failed if failure.suite == suite]
    if not mine:
        return '<span class="met">met</span>'
    return ", ".join(f'<span class="{kind}">{mine.count(kind)} {kind}</span>' for kind in dict.fromkeys(mine))
