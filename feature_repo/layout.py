"""Packed layouts of Feast's views, and the values that stand in for what is missing."""

import numpy as np
from feast import FeatureView
from numpy.typing import NDArray

from feature_repo.views import definitions
from models.layout import FeatureLayout


def layout_of(view: FeatureView) -> FeatureLayout:
    """The layout of a view's features in their order: float32 unless the tag ``dtype`` says float16."""
    return FeatureLayout.typed([(field.name, field.tags.get("dtype", "float32")) for field in view.features])


def defaults_of(view: FeatureView) -> NDArray[np.float32]:
    """float32[d], what each feature is taken to be where an entity is missing (its tag ``default``)."""
    return np.array([float(field.tags.get("default", 0.0)) for field in view.features], np.float32)


def layouts() -> dict[str, FeatureLayout]:
    """Layout of each view by the view's name."""
    views = definitions(lambda table: table).views
    return {name: layout_of(view) for name, view in views.items()}
