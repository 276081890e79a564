"""What the parity folder holds and the library does not build yet: the one list, and it ends empty."""

from __future__ import annotations

__all__ = ["KINDS", "OPERATORS", "SYSTEMS", "is_pending_operator"]

SYSTEMS = frozenset(
    {
        "adcsr",
        "aps",
        "idm",
        "oscar",
        "tvt",
    }
)
"""Folders of which nothing is built."""

KINDS: frozenset[tuple[str, str]] = frozenset()
"""``(system, kind)`` pairs that no test reads yet."""

OPERATORS: tuple[str, ...] = ()
"""Beginnings of the names of operators that are not built, wherever a case names one (``walsh`` covers ``walsh4``)."""


def is_pending_operator(name: str) -> bool:
    """Whether the operator called ``name`` in a case is not built yet."""
    return name.startswith(OPERATORS)
