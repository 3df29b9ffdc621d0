"""Entry point of ``upnext``: finds a command, runs it, and turns Upnext's errors into one clear line."""

import sys
from importlib import import_module
from typing import Any

import click

from upnext import __version__
from upnext.errors import UpnextError

COMMANDS = {
    "demo": ("upnext.cli.demo:demo", "Train, check, release, serve, and show one viewer's feed."),
    "cycle": ("components.commands:cycle", "Run the whole pipeline on what is new in a source."),
    "step": ("components.commands:step", "Run one step of the pipeline."),
    "recommend": ("serving.commands:recommend", "Write recommendations for many users to a file."),
    "evaluate": ("components.commands:evaluate", "Score a file of recommendations against what users did."),
    "skew": ("components.commands:skew", "Compare the features that serving logged with recomputed ones."),
    "simulate": ("serving.commands:simulate", "Put policies before the simulated world's viewers."),
    "release": (
        "upnext.cli.release:release",
        "Show the releases, promote one, or go back to the one before.",
    ),
    "experiment": (
        "serving.experiments.commands:experiment",
        "Start experiments, stop them, and read them out.",
    ),
    "serve": ("serving.commands:serve", "Start the recommendation service."),
    "key": ("upnext.cli.key:key", "Make, list and revoke the keys to the service."),
    "forget": ("serving.commands:forget", "Erase a person from every store."),
    "world": ("upnext.cli.world:world", "Write the simulated world's log to files."),
    "migrate": ("upnext.cli.migrate:migrate", "Bring the tables of the SQL stores up to date."),
    "doctor": ("upnext.cli.doctor:doctor", "Show each outside system, its URL and whether it answers."),
    "airflow": ("upnext.cli.tools:airflow", "Open the pipeline in Airflow."),
    "mlflow": ("upnext.cli.tools:mlflow", "Open the training runs and releases in MLflow."),
    "kubeflow": ("components.kubeflow:kubeflow", "Compile the pipeline for Kubeflow Pipelines."),
}
"""Command -> (where it is defined, one line of help). Strings, so that ``--help`` imports none of it."""


class LazyGroup(click.Group):
    """A click group that imports a command's module when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="upnext")
def cli() -> None:
    """Upnext recommends videos: from engagement events to a served feed.

    \b
    Try it on a simulated platform:
      upnext cycle --data world:             train, check, release
      upnext serve                           answer on http://127.0.0.1:8700/docs

    \b
    Bring a real log:
      upnext cycle --data kuairand:DIR       KuaiRand, official layout
      upnext cycle --data kuairec:DIR        KuaiRec
      upnext cycle --data movielens:DIR      MovieLens 100k, 1M or CSV
      upnext cycle --data files:DIR          your own events, videos and users

    All state lies below one folder, UPNEXT_HOME (default .upnext). Every UPNEXT_* variable is
    described in the README.
    """


def main() -> Any:
    try:
        return cli(standalone_mode=True)
    except UpnextError as error:
        click.echo(f"upnext: {' '.join(str(error).split())}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
