"""docs/features.md, made from the definitions: ``python -m feature_repo docs``."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from feature_repo.context import CONTEXT_SPECS
from feature_repo.layout import spec_layout
from feature_repo.specs import OWNER, STREAMS, USER, VIDEO, VIEWS, ViewSpec
from models.cross_specs import AFFINITY_SPECS, CROSS_SPECS
from models.specs import COMPONENT, FeatureSpec

PAGE = Path(__file__).parents[1] / "docs" / "features.md"
PER_REQUEST = (
    ("Context", "Of the request, once for all candidates (`feature_repo/context.py`).", CONTEXT_SPECS),
    ("Crosses", "Of a viewer and a candidate together (`models/crosses.py`); unknown is NaN.", CROSS_SPECS),
    ("Affinities", "Stored vectors of both, multiplied (`models/affinity.py`).", AFFINITY_SPECS),
)


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join(_lines()) + "\n"


def write() -> Path:
    """Bring docs/features.md up to date; says where it is."""
    PAGE.write_text(page())
    return PAGE


def _lines() -> Iterator[str]:
    stored = len(USER.features) + len(VIDEO.features)
    asked = sum(len(specs) for _, _, specs in PER_REQUEST)
    live = sum(len(view.features) for view in STREAMS.values())
    yield "# Features"
    yield ""
    yield "Made from the definitions by `python -m feature_repo docs`; edit those, not this page."
    yield ""
    yield (
        f"{stored + asked + live} features in all: {stored} stored of viewers and videos, {live} kept in "
        f"real time, {asked} computed per request, and for each surface and device that the data "
        "has one `surface=…` or `device=…`. The ranker reads all but the components of vectors, of which it "
        "reads the products. A vector's components are one row here."
    )
    for view in (*VIEWS.values(), *STREAMS.values()):
        yield from _view(view)
    for title, text, specs in PER_REQUEST:
        yield from ("", f"## {title}", "", f"{text} Owner: {OWNER}.", "")
        yield from _table(specs, stored=False)


def _view(view: ViewSpec) -> Iterator[str]:
    held = (
        f"A value holds for {view.window_minutes} minutes."
        if view.window_minutes
        else f"Snapshots in the lake's table `{view.table}`."
    )
    yield from ("", f"## {view.name}", "")
    yield (
        f"{view.description}. {len(view.features)} features of a {view.entity}, "
        f"{spec_layout(view).size} bytes packed. {held} Owner: {view.owner}."
    )
    yield ""
    yield from _table(view.features, stored=True)


def _table(specs: Iterable[FeatureSpec], stored: bool) -> Iterator[str]:
    more = " | stored as | default" if stored else ""
    yield f"| feature | unit | what{more} |"
    yield f"| --- | --- | ---{' | --- | ---' if stored else ''} |"
    for name, spec in _rows(specs):
        held = f" | {spec.dtype} | {spec.default:.4g}" if stored else ""
        yield f"| `{name}` | {spec.unit} | {spec.description}{held} |"


def _rows(specs: Iterable[FeatureSpec]) -> Iterator[tuple[str, FeatureSpec]]:
    """Features by name; of a vector one, with the range of its components."""
    vectors: dict[str, list[FeatureSpec]] = {}
    for spec in specs:
        stem = spec.name.rpartition("_")[0] if spec.unit == COMPONENT else spec.name
        vectors.setdefault(stem, []).append(spec)
    for stem, found in vectors.items():
        if len(found) == 1:
            yield stem, found[0]
            continue
        text = found[0].description.replace(", component 0", "")
        yield f"{stem}_0 … {stem}_{len(found) - 1}", FeatureSpec(stem, COMPONENT, text)
