"""Protocols of evaluation: which data, which split, which measures. docs/evaluation.md tells of each.

A protocol is a function from a :class:`~components.protocols.prepared.Prepared` to a
:class:`~components.protocols.report.Report`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from upnext.errors import ConfigError

if TYPE_CHECKING:
    from components.protocols.prepared import Prepared
    from components.protocols.report import Report

PROTOCOLS = {
    "holdout": ("components.protocols.holdout:holdout", "blend"),
    "retrievers": ("components.protocols.retrievers:retrievers", "blend"),
    "cold-start": ("components.protocols.cold_start:cold_start", "examples"),
    "leave-one-out": ("components.protocols.splits:leave_one_out", "examples"),
    "strong-generalisation": ("components.protocols.splits:strong_generalisation", "examples"),
    "off-policy": ("components.protocols.off_policy:off_policy", "blend"),
}
"""Name -> (where it is defined, the last step that it needs)."""


def load(name: str) -> "Callable[[Prepared], Report]":
    """The protocol of that name; ConfigError where there is none."""
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol is {name!r}: it is one of {', '.join(PROTOCOLS)}")
    module, function = PROTOCOLS[name][0].split(":")
    found: Callable[[Prepared], Report] = getattr(import_module(module), function)
    return found
