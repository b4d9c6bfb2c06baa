"""`bench explain`: one request's events, and its figures under the definitions of other tools. Layout is left to `bench.explain_view`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
    from results.reading import RequestOrigin
    from results.records import Request


@click.command()
@click.argument("request")
@store_option
@json_option
def explain(request: str, store_url: str, as_json: bool) -> int:
    """Show when things happened in one REQUEST (an id or its unique beginning), and what other tools would report of it."""
    from results.store import Store

    with Store.reading(store_url) as store:
        origin, found = store.find_request(request)
    if as_json:
        click.echo(json.dumps(_explanation_to_dict(origin, found), indent=2, ensure_ascii=False))
        return 0
    from bench.explain_view import explanation
    from bench.tables import console

    console().print(explanation(origin, found))
    return 0


def _explanation_to_dict(origin: RequestOrigin, request: Request) -> dict[str, Any]:
    from dataclasses import asdict

    from results.definitions import TOOLS, definitions_of
    from results.timeline import accounts, timeline

    rows = definitions_of(request)
    return {
        "run_id": origin.run_id,
        "case_id": origin.planned.case.case_id,
        "case": origin.planned.label,
        "process": origin.process,
        "request": request.model_dump(mode="json", exclude={"prompt", "output", "event_times_s", "event_tokens"}),
        "timeline": [asdict(one) for one in timeline(request)],
        "server": [asdict(one) | {"difference": one.difference} for one in accounts(request)],
        "tools": [
            {
                "tool": tool.name,
                "version": tool.version,
                "difference": tool.difference,
                "figures": {
                    row.figure: {"name": row.name, "formula": row.formula, "value": row.value, "reason": row.reason}
                    for row in rows
                    if row.tool == tool.name
                },
            }
            for tool in TOOLS
        ],
    }
