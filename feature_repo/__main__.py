"""Feast's own commands on Upnext's feature store: ``python -m feature_repo plan``, ``apply``, ``ui``…"""

import os
import sys
from pathlib import Path

from feature_repo.repo import environment
from upnext.settings import load_settings


def main() -> None:
    """Hand the arguments to Feast, with this folder as its repository and the settings' places filled in."""
    from feast.cli.cli import cli

    os.environ.update(environment(load_settings()))
    folder = Path(__file__).parent
    sys.path[:0] = [str(folder), str(folder.parent)]
    cli(["--chdir", str(folder), *sys.argv[1:]], prog_name="python -m feature_repo")


if __name__ == "__main__":
    main()
