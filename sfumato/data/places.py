"""Where downloaded sets lie: at the path of a spec or below $SFUMATO_DATA; and which split of them is meant."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sfumato.data.spec import DataError, Spec


def split_and_path(spec: Spec, splits: tuple[str, ...]) -> tuple[str, str]:
    """The split of `NAME:SPLIT` or `NAME:PATH?split=SPLIT`, by default the first, and the path, which may be empty.

    Raises:
        DataError: a split that there is not.
    """
    own = "" if spec.rest in ("", *splits) else spec.rest
    split = spec.rest if spec.rest in splits else spec.options.get("split", splits[0])
    if split not in splits:
        raise DataError(f"{spec.name} has the splits {', '.join(splits[:-1])} and {splits[-1]}, not {split!r}")
    return split, own


def placed(spec: Spec, own: str, below: Sequence[str], there: Callable[[Path], bool], get: str) -> Path:
    """The first place at which a set is found: a path of one's own, or one below it or below $SFUMATO_DATA.

    Args:
        own: the path that the spec names; empty where it names none.
        below: paths within it, or within $SFUMATO_DATA.
        there: whether the set is at such a path.
        get: what to get and where to put it, which ends the error.

    Raises:
        DataError: it is at none of them.
    """
    root = own or os.path.expanduser(os.environ.get("SFUMATO_DATA", ""))
    for path in (Path(root), *(Path(root) / part for part in below)) if root else ():
        if there(path):
            return path
    where = f"in {root}" if own else "below $SFUMATO_DATA" if root else "here, and $SFUMATO_DATA is not set"
    raise DataError(f"{spec.name} is not {where}: {get}")
