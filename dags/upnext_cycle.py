"""When the pipeline runs, and in which order: a task is a command, and what it does lies in ``components``.

``upnext_cycle`` runs every step four times a day; ``upnext_hourly`` keeps the features fresh in between.
What a task reads from its environment is documented in docs/operations.md.
"""

import os
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

from components.pipeline import BY_NAME, STEPS
from upnext.errors import CandidateRefused

FRESHNESS = ("ingest", "visual", "features", "materialise")
COMMAND = 'upnext step {step} --data "$DATA" ${{UNTIL:+--until "$UNTIL"}} ${{FORCE:+--force}}'
# A log grows, so its interval ends with the schedule's; any other source is read to its own end.
UNTIL = """{{ params.until or
    ((data_interval_end or dag_run.run_after).isoformat() if params.data == "log:" else "") }}"""


def build(dag_id: str, schedule: str, steps: Collection[str], longest: timedelta) -> DAG:
    """A DAG of some of the steps, wired as the step table says."""
    with DAG(
        dag_id,
        description=f"Upnext: {', '.join(steps)}",
        schedule=schedule,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        params={
            "data": Param(os.environ.get("UPNEXT_DATA", "log:"), type="string", minLength=1),
            "until": Param(
                None, type=["null", "string"], format="date-time", description="End of the interval"
            ),
            "force": Param(False, type="boolean", description="Run again what is done already"),
        },
        default_args={
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=15),
            "execution_timeout": longest,
        },
        tags=["upnext"],
    ) as dag:
        tasks = {
            name: BashOperator(
                task_id=name,
                doc_md=BY_NAME[name].about,
                bash_command=COMMAND.format(step=name),
                # Values travel as variables, so that the shell never reads them as commands.
                env={"DATA": "{{ params.data }}", "UNTIL": UNTIL, "FORCE": "{{ 1 if params.force else '' }}"},
                append_env=True,
                cwd=str(Path.cwd()),
                skip_on_exit_code=CandidateRefused.exit_code,
            )
            for name in steps
        }
        for name in steps:
            tasks[name].set_upstream([tasks[need] for need in BY_NAME[name].needs])
    return dag


cycle = build("upnext_cycle", "0 */6 * * *", [step.name for step in STEPS], timedelta(hours=5))
hourly = build("upnext_hourly", "0 1-5,7-11,13-17,19-23 * * *", FRESHNESS, timedelta(minutes=50))
