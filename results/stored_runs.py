"""The runs of a store without what was measured in them: enough to choose among them. Their reports are `results.store`'s."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from results import schema
from results.database import readable_errors, snapshots
from results.records import Environment, status_after


@dataclass(frozen=True)
class StoredRun:
    """What a run is chosen by."""

    run_id: str
    kind: str
    suite: str
    started_at: datetime
    status: str
    """`finished`, `interrupted`, `failed` or `open`."""
    machine_id: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    git_branch: str | None = None
    tags: tuple[str, ...] = ()


def stored_runs(engine: sa.Engine) -> list[StoredRun]:
    """All runs, newest first.

    Raises:
        StoreError: the store cannot be read.
    """
    run, event, tag, environment = schema.runs, schema.run_events, schema.run_tags, schema.environments
    columns = [run.c[name] for name in StoredRun.__dataclass_fields__ if name in run.c]
    events: dict[str, list[str]] = defaultdict(list)
    tags: dict[str, list[str]] = defaultdict(list)
    remedy = "Look for damage with `bench db check`."
    with readable_errors("The store cannot be read", remedy), snapshots(engine).connect() as connection:
        for run_id, kind in connection.execute(sa.select(event.c.run_id, event.c.kind).order_by(event.c.at, event.c.event_id)):
            events[run_id].append(kind)
        for run_id, name in connection.execute(sa.select(tag.c.run_id, tag.c.tag).order_by(tag.c.tag)):
            tags[run_id].append(name)
        machines = {
            row.environment_id: Environment(facts=row.facts).machine_id for row in connection.execute(sa.select(environment))
        }
        query = sa.select(*columns, run.c.environment_id).order_by(run.c.started_at.desc(), run.c.run_id.desc())
        return [
            StoredRun(
                **{name: value for name, value in row._mapping.items() if name != "environment_id"},
                status=status_after(events[row.run_id]),
                machine_id=machines[row.environment_id],
                tags=tuple(tags[row.run_id]),
            )
            for row in connection.execute(query)
        ]
