"""What may be shown at all."""

import numpy as np
from numpy.typing import NDArray

from serving.postrank.slate import Situation, Slate


def eligible(slate: Slate, situation: Situation) -> Slate:
    """Drop what may not be shown to this viewer here and now; see :func:`permitted`."""
    return slate.take(permitted(slate.rows, situation))


def permitted(rows: NDArray[np.int32], situation: Situation) -> NDArray[np.bool_]:
    """bool[n]: which rows may be shown.

    Not: blocked or deleted videos, uploads still to come, what is for adults only unless allowed, what is
    blocked in the viewer's region, in kids mode what is not made for kids, what the viewer turned down, and
    what the request excludes.
    """
    inventory = situation.inventory
    catalogue = inventory.catalogue
    active = catalogue.active if situation.active is None else situation.active
    keep = active[rows] & (catalogue.uploaded_at[rows] <= situation.now)
    if not situation.allow_restricted or situation.kids:
        keep &= ~inventory.restricted[rows]
    if situation.kids:
        keep &= inventory.for_kids[rows]
    barred: list[NDArray[np.integer]] = [situation.seen[situation.seen_strength < 0], situation.exclude]
    blocked = inventory.blocked(situation.region)
    if blocked is not None:
        barred.append(blocked)
    unwanted = np.concatenate(barred)
    return keep & ~np.isin(rows, unwanted) if len(unwanted) else keep
