"""A generator of one's own, by its name: `module:function`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import cast

from onceseen.generate.writing import Generator


def load_callable(name: str) -> Generator:
    """Imports a generator; modules in the working directory are found too, as by `python -m`.

    Args:
        name: `module:function`; the function may be any object that can be called, also an attribute of another
            (`module:model.sample`).

    Raises:
        ValueError: If the name is not of that form, there is no such module or attribute, or it cannot be called.
    """
    module_name, colon, attributes = name.partition(":")
    if not colon or not module_name or not attributes:
        raise ValueError(f"--callable {name!r}: expected module:function, such as my_model:generate")
    found = _import(name, module_name)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise ValueError(f"--callable {name}: {found!r} has no {attribute!r}")
        found = getattr(found, attribute)
    if not callable(found):
        raise ValueError(
            f"--callable {name} is of type {type(found).__name__}, which cannot be called; expected a function of "
            "prompts and seeds"
        )
    return cast(Generator, found)


def _import(name: str, module_name: str) -> object:
    sys.path.insert(0, "")
    try:
        return import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"--callable {name}: the module {module_name} cannot be imported ({error}); start the command in its "
            "directory, or set PYTHONPATH"
        ) from error
    finally:
        sys.path.remove("")
