"""What one request gave, before the API words it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.ads import Ad
from serving.candidates import Pool
from serving.deadlines import Trace
from serving.loaded import Loaded
from serving.postrank import Slate
from serving.ranking import Ranked
from serving.viewer import Viewer
from upnext.contracts import Reason


@dataclass(frozen=True)
class Answer:
    """What one request gave, still in rows: the API turns rows into ids and columns."""

    request_id: str
    surface: str
    viewer: Viewer
    release: Loaded
    slate: Slate
    pool: Pool
    reasons: list[Reason]
    ranked: Ranked | None
    ads: Mapping[int, Ad] = field(default_factory=dict)
    """Final position -> ad; the slate's videos take the positions between them."""
    trace: Trace = field(default_factory=Trace)
    about: str | None = None
    experiments: Mapping[str, str] = field(default_factory=dict)
    """Experiment -> variant that answered."""

    @property
    def positions(self) -> NDArray[np.int64]:
        """int64[m], final position of each video of the slate."""
        return np.setdiff1d(np.arange(len(self.slate) + len(self.ads)), list(self.ads))
