"""Options that several commands share: a dataclass of them as single options of a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

__all__ = ["unfolded"]


def unfolded(command: Callable[..., None], name: str, kind: type) -> Callable[..., None]:
    """``command(..., name=kind(...))`` as a function that takes the fields of the dataclass ``kind`` one by one."""
    own = _parameters(command)
    del own[name]
    shared = _parameters(kind)

    @functools.wraps(command)
    def single(**given: Any) -> None:
        options = kind(**{field: given.pop(field) for field in shared})
        command(**given, **{name: options})

    parameters = [*own.values(), *shared.values()]
    single.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    single.__annotations__ = {p.name: p.annotation for p in parameters}
    return single


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    hints = get_type_hints(function, include_extras=True)
    return {
        name: p.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, p in inspect.signature(function).parameters.items()
    }
