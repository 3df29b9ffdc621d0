"""The funnel and its models beside popularity, EASE and implicit's ALS, on public logs and in the world.

make bench NAME=models ARGS="--kuairand DIR --kuairec DIR --world"

Each source is cycled first, into UPNEXT_HOME, unless it has been. docs/evaluation.md says what each protocol
can and cannot prove.
"""

from benchmarks._models import main

if __name__ == "__main__":
    main(__doc__)
