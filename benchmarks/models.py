"""The funnel and its models beside popularity, EASE and implicit's ALS, on public logs and in the world.

make bench NAME=models ARGS="--kuairand DIR --kuairec DIR --world"

Each source is cycled first, into UPNEXT_HOME, unless it has been. docs/evaluation.md says what each protocol
can and cannot prove.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # This file's folder leads the path, where its name would hide the package of that name.
    sys.path.remove(str(Path(__file__).parent))
    from benchmarks._models import main

    main(__doc__)
