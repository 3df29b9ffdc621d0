"""Which variant a unit gets: deterministic, by salted hashes of its id.

Hashing and bucket ranges are GrowthBook's (hash version 2, 10,000 buckets), so that a client with one of its
SDKs finds the same: namespace ``layer:LAYER`` with the experiment's range, seed ``salt``, coverage ``ramp``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from upnext.experiments import Experiment, Variant


@dataclass(frozen=True)
class Assignments:
    """Experiments known at one moment, and the shares of units that are held out of them.

    holdouts: layer -> share; an empty layer stands for all experiments.
    """

    experiments: tuple[Experiment, ...] = ()
    holdouts: Mapping[str, float] = field(default_factory=dict)

    def of(
        self, unit: str, at: datetime, surface: str, region: str | None = None, device: str | None = None
    ) -> list[tuple[Experiment, Variant]]:
        """The running experiments that this request is in, each with the unit's variant."""
        if not unit:
            return []
        found = []
        for experiment in self.experiments:
            if experiment.running(at) and experiment.eligibility.admits(surface, region, device):
                variant = self.variant(experiment, unit)
                if variant is not None:
                    found.append((experiment, variant))
        return found

    def variant(self, experiment: Experiment, unit: str) -> Variant | None:
        """The variant of a unit, whatever it asks for; None when it is not in the experiment."""
        forced = experiment.overrides.get(unit)
        if forced is not None:
            return next(each for each in experiment.variants if each.name == forced)
        if self.held_out(experiment.layer, unit):
            return None
        first, end = experiment.range
        if not first <= bucket(f"layer:{experiment.layer}", unit) < end:
            return None
        return self._picks[experiment.name].of(unit)

    def held_out(self, layer: str, unit: str) -> bool:
        """Whether a unit is in no experiment of a layer. Raising a share keeps everybody who is held out."""
        shares = ((each, self.holdouts.get(each, 0.0)) for each in ("", layer))
        return any(share > 0 and bucket(f"holdout:{each}", unit) < share for each, share in shares)

    @cached_property
    def _picks(self) -> Mapping[str, "Pick"]:
        return {each.name: Pick.by(each) for each in self.experiments}


@dataclass(frozen=True)
class Pick:
    """The part of the hash's range [0, 1) that each variant of an experiment has."""

    salt: str
    ranges: list[tuple[float, float]]
    variants: tuple[Variant, ...]

    @classmethod
    def by(cls, experiment: Experiment) -> "Pick":
        """Each variant's part begins where its weight says and is filled up to the ramp.

        So a higher ramp moves nobody from one variant to another.
        """
        from growthbook.core import getBucketRanges

        weights = [variant.weight for variant in experiment.variants]
        ranges = getBucketRanges(len(weights), experiment.ramp, weights)
        return cls(experiment.salt, ranges, experiment.variants)

    def of(self, unit: str) -> Variant | None:
        from growthbook.core import chooseVariation

        place = chooseVariation(bucket(self.salt, unit), self.ranges)
        return self.variants[place] if place >= 0 else None


def bucket(seed: str, unit: str) -> float:
    """Where a unit lies in [0, 1), in steps of 1/10,000."""
    from growthbook.core import gbhash

    return gbhash(seed, unit, 2) or 0.0  # None is only for hash versions that do not exist
