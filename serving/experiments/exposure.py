"""Whether an experiment could have changed an answer: only then was the viewer exposed to it.

The question is asked alike for every variant, the control's too, or the variants' exposed viewers would not
be comparable. Where the other variants' answers are cheap to have, they are compared with the one given.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from serving.candidates import Candidates, Pool
from serving.experiments.parameters import RELEASE
from serving.funnel import RETRIEVERS, Funnel
from serving.postrank import Situation, Slate
from serving.ranking import Ranked
from serving.shelves import Shelf
from serving.viewer import Viewer
from upnext.experiments import Experiment


@dataclass(frozen=True)
class Outcome:
    """How one request went through a funnel."""

    viewer: Viewer
    shelf: Shelf
    found: Mapping[str, Candidates]
    situation: Situation
    pool: Pool
    ranked: Ranked | None
    slate: Slate

    def light(self) -> "Outcome":
        """The same without the features that were ranked, the most of it by far."""
        return self if self.ranked is None else replace(self, ranked=replace(self.ranked, inputs=None))

    def mattered(self, experiment: Experiment, others: Iterable[Funnel]) -> bool:
        """Whether another variant would, or for all we know might, have given another answer.

        others: the funnels of the experiment's other variants, over the same bundle.
        """
        names = differing(experiment)
        if RELEASE in names or any(name.startswith("limits.") for name in names):
            return True
        asked = {name.removeprefix("retrievers.") for name in names if name.startswith("retrievers.")}
        if any(name in (self.shelf.sources or RETRIEVERS) and self._speaks(name) for name in asked):
            return True
        after = any(not name.startswith("retrievers.") for name in names)
        return after and any(self._differs(other) for other in others)

    def _speaks(self, retriever: str) -> bool:
        """Whether a retriever has anything to go by, so that switching it on or off can be felt."""
        return retriever != "search" or bool(self.viewer.query)

    def _differs(self, other: Funnel) -> bool:
        """Whether another funnel shows other videos, or in another order, from the same candidates."""
        asked, shelf = self.situation, self.shelf
        its = other.situation(self.viewer, asked.count, asked.seed, asked.exclude)
        pool = other.pool(self.viewer, self.found, its, filled=shelf.filled, unseen=shelf.unseen)
        if not np.array_equal(pool.rows, self.pool.rows):
            return True
        ranked = None if self.ranked is None else other.ranker.rescored(self.ranked)
        slate = other.slate(pool, ranked, self.viewer, its, shelf.rules, shelf.matches(self.found))
        return not np.array_equal(slate.rows, self.slate.rows)


def differing(experiment: Experiment) -> frozenset[str]:
    """Parameters that do not have one value in all variants."""
    variants = [variant.parameters for variant in experiment.variants]
    first = variants[0]
    return frozenset(
        name
        for name in experiment.parameters
        if any((name in first) != (name in each) or first.get(name) != each.get(name) for each in variants)
    )
