"""The shelves that a client can ask for: where each looks, and what post-ranking does to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.candidates import Candidates
from serving.funnel import RELATED as BESIDE
from serving.postrank import HOME as FEED_RULES
from serving.postrank import SEARCH as SEARCH_RULES
from serving.postrank import SHELF as SHELF_RULES
from serving.postrank import Rule


@dataclass(frozen=True)
class Shelf:
    """One kind of answer."""

    name: str
    """Its surface, as events and impressions call it."""
    sources: Sequence[str] = ()
    """Retrievers by name; empty: all that a feed has."""
    rules: Sequence[Rule] = SHELF_RULES
    personal: bool = True
    """Ranked for the viewer; else in the order of retrieval."""
    filled: bool = True
    """With popular videos, where too few were found; else it is as long as what belongs there."""
    unseen: bool = True
    """Without what the viewer watched lately, as long as enough else is left."""
    deep: bool = False
    """Its one source brings as many candidates as are ranked."""

    def matches(self, found: Mapping[str, Candidates]) -> Candidates | None:
        """What was searched for, where that is what the shelf is of."""
        return found.get("search", Candidates.none()) if self.name == "search" else None


HOME = Shelf("home", rules=FEED_RULES)
RELATED = Shelf("related", BESIDE)
END_SCREEN = Shelf("end_screen", (*BESIDE, "als", "two_tower"))
BECAUSE_YOU_WATCHED = Shelf("because_you_watched", ("because_you_watched",), filled=False)
TOPIC = Shelf("topic", ("topic",), filled=False, deep=True)
NEW_RELEASES = Shelf("new_releases", ("latest",), filled=False, deep=True)
TRENDING = Shelf("trending", ("trending",), personal=False, deep=True)
SEARCH = Shelf("search", ("search",), SEARCH_RULES, filled=False, unseen=False, deep=True)
