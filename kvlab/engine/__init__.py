"""The kinds of servers that the laboratory can run; only `lab` knows this room.

It holds no cluster logic. `ENGINES` is the whole registry: reading it tells what exists.
"""

from __future__ import annotations

import importlib

from kvlab.engine.base import Engine
from kvlab.errors import UsageError

ENGINES = {
    "kvlab": "kvlab.engine.kvlab:KvlabEngine",
    "command": "kvlab.engine.command:CommandEngine",
}


def load_engine(name: str) -> Engine:
    """Return the engine of this name; "module:Class" names one outside of kvlab.

    Raises UsageError when there is none.
    """
    place = ENGINES.get(name, name)
    module, _, attribute = place.partition(":")
    hint = f"engines are {', '.join(sorted(ENGINES))}; one of your own is written module:Class"
    if not attribute:
        raise UsageError(f"no engine is called {name!r}", hint=hint)
    try:
        engine: Engine = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot load the engine {name!r}: {error}", hint=hint) from error
    return engine
