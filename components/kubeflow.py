"""The step table as a Kubeflow pipeline: the same commands, one container each.

The compiled file asks three things of a cluster: an image that holds Upnext, the URLs of the stores as
``UPNEXT_*`` variables, and one volume at UPNEXT_HOME, through which the steps hand on their output.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import click
from kfp import compiler, dsl

from components.pipeline import STEPS
from upnext.errors import ConfigError

IMAGE = "upnext/pipeline:python3.11"


def run_step(  # a component of KFP sees nothing of its module: everything it needs is in its body
    step: str,
    data: str,
    until: str,
    figures: dsl.Output[dsl.Metrics],
) -> NamedTuple("Outputs", [("until", str), ("verdict", str)]):  # type: ignore[valid-type]
    import json
    import subprocess
    import sys
    from collections import namedtuple

    from upnext.errors import CandidateRefused

    command = ["upnext", "step", step, "--data", data, "--json"]
    command += ["--until", until] if until else []
    child = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    Outputs = namedtuple("Outputs", ["until", "verdict"])
    if child.returncode == CandidateRefused.exit_code:
        return Outputs(until, "refused")
    if child.returncode:
        sys.exit(child.returncode)
    report = json.loads(child.stdout.splitlines()[-1])
    for name, value in report["metrics"].items():
        figures.log_metric(name, value)
    return Outputs(report["until"], "passed" if report["metrics"].get("passed", 1) else "refused")


def pipeline(
    image: str = IMAGE,
    packages: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    conditional: bool = True,
) -> dsl.base_component.BaseComponent:
    """The pipeline with every step of the table.

    image: what each step runs in. packages: what pip adds to it first, for an image without Upnext.
    variables: the environment of each step. conditional: whether what needs the gate lies in a
    ``dsl.If``; without it those steps run and find out themselves that the candidate was refused, which is
    for KFP's local runner: it takes every condition for false (kubeflow/pipelines#13313).
    """

    def component(name: str) -> dsl.base_component.BaseComponent:
        made = dsl.component(
            run_step, base_image=image, packages_to_install=list(packages), install_kfp_package=bool(packages)
        )
        made.component_spec.name = name.replace("_", "-")  # else every task is called run-step
        return made

    @dsl.pipeline(name="upnext-cycle", description="From events to a released bundle")  # type: ignore[untyped-decorator]
    def upnext_cycle(data: str = "log:", until: str = "") -> None:
        tasks: dict[str, dsl.PipelineTask] = {}

        def add(names: Sequence[str]) -> None:
            for step in (step for step in STEPS if step.name in names):
                end = tasks["ingest"].outputs["until"] if step.needs else until
                task = component(step.name)(step=step.name, data=data, until=end)
                task.set_caching_options(False).after(*(tasks[need] for need in step.needs))
                for name, value in (variables or {}).items():
                    task.set_env_variable(name, value)
                tasks[step.name] = task

        gated = behind("gate")
        add([step.name for step in STEPS if step.name not in gated])
        passed = dsl.If(tasks["gate"].outputs["verdict"] == "passed", name="the gate passed")
        with passed if conditional else nullcontext():
            add(gated)

    return upnext_cycle


def behind(name: str) -> list[str]:
    """The steps that need a step, directly or through others."""
    found: list[str] = []
    for step in STEPS:
        if {name, *found} & set(step.needs):
            found.append(step.name)
    return found


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A .yaml file.")
@click.option("--image", default=IMAGE, show_default=True, help="Image that the steps run in.")
@click.option("--package", "packages", multiple=True, help="What pip adds to the image first; repeatable.")
@click.option("--env", "pairs", multiple=True, metavar="NAME=VALUE", help="A step's variable; repeatable.")
def kubeflow(out: Path, image: str, packages: tuple[str, ...], pairs: tuple[str, ...]) -> None:
    """Compile the pipeline for Kubeflow Pipelines, ready to be uploaded."""
    wrong = next((pair for pair in pairs if "=" not in pair), None)
    if wrong is not None:
        raise ConfigError(f"--env is {wrong!r}: write it as NAME=VALUE")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = pipeline(image, packages, dict(pair.split("=", 1) for pair in pairs))
    compiler.Compiler().compile(made, str(out))
    click.echo(f"{out}: {len(STEPS)} steps")


if __name__ == "__main__":
    kubeflow()
