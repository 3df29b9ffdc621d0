"""Packed layouts of the feature views, and the values that stand in for what is missing."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_repo.specs import VIEWS, ViewSpec
from models.layout import FeatureLayout

if TYPE_CHECKING:
    from feast import FeatureView


def layout_of(view: "FeatureView") -> FeatureLayout:
    """The layout of a view's features in their order: float32 unless the tag ``dtype`` says float16."""
    return FeatureLayout.typed([(field.name, field.tags.get("dtype", "float32")) for field in view.features])


def defaults_of(view: "FeatureView") -> NDArray[np.float32]:
    """float32[d], what each feature is taken to be where an entity is missing (its tag ``default``)."""
    return np.array([float(field.tags.get("default", 0.0)) for field in view.features], np.float32)


def layouts() -> dict[str, FeatureLayout]:
    """Layout of each batch view by the view's name, as :func:`layout_of` gives it, without loading Feast."""
    return {name: spec_layout(spec) for name, spec in VIEWS.items()}


def spec_layout(spec: ViewSpec) -> FeatureLayout:
    """The layout of a view's features in their order."""
    return FeatureLayout.typed([(feature.name, feature.dtype) for feature in spec.features])
