"""Figures: one module per notebook topic, one look for all."""

from importlib import import_module
from types import ModuleType

_MODULES = (
    "adaptation",
    "calibration",
    "costs",
    "errors",
    "exploration",
    "generalisation",
    "main_result",
    "stratification",
    "style",
    "tables",
)


def __getattr__(name: str) -> ModuleType:
    """`figures.errors` and its like, loaded when first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
