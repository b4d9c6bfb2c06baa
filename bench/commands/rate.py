"""`bench rate`: a person's judgement of one stored answer."""

import click

from bench.commands.options import store_option


@click.command()
@click.argument("request")
@click.argument("value", type=float)
@store_option
def rate(request: str, value: float, store_url: str) -> None:
    """Store how satisfied you are with the answer to REQUEST (its id, or the unique beginning), from 0 to 1.

    Rating a request again replaces the rating.
    """
    from results.records import Score
    from results.store import Store

    if not 0 <= value <= 1:
        raise click.BadParameter(f"{value} is not between 0 and 1.", param_hint="VALUE")
    with Store.reading(store_url) as store:  # reading first: a rating never creates or upgrades a store
        request_id = store.resolve_request(request)
    score = Score(request_id=request_id, scorer="person", version="v1", item="user_satisfaction", value=value)
    with Store.writing(store_url) as store:
        store.add_scores([score])
    click.echo(f"Request {request_id}: {score.item} {score.value:g}")
