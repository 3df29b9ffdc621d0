"""Feast's own commands on Upnext's feature store: ``python -m feature_repo plan``, ``apply``, ``ui``…

One is ours: ``docs`` writes docs/features.md.
"""

import os
import sys
from pathlib import Path

from feature_repo.repo import environment
from upnext.settings import load_settings


def main() -> None:
    """Hand the arguments to Feast, with this folder as its repository and the settings' places filled in."""
    if sys.argv[1:] == ["docs"]:
        from feature_repo.pages import write

        print(write())
        return
    from feast.cli.cli import cli

    places = environment(load_settings())
    Path(places["UPNEXT_FEAST_REGISTRY"]).parent.mkdir(parents=True, exist_ok=True)
    os.environ.update(places)
    folder = Path(__file__).parent
    sys.path[:0] = [str(folder), str(folder.parent)]
    cli(["--chdir", str(folder), *_on_loopback(sys.argv[1:])], prog_name="python -m feature_repo")


def _on_loopback(arguments: list[str]) -> list[str]:
    """The UI asks nobody who they are, so it listens on this machine only unless told otherwise."""
    if arguments[:1] == ["ui"] and not {"--host", "-h", "--help"} & set(arguments):
        return [*arguments, "--host", "127.0.0.1"]
    return arguments


if __name__ == "__main__":
    main()
