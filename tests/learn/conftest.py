"""One server and one browser for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serving
import watching


@pytest.fixture(scope="module")
def progress(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learner") / "progress.json"


@pytest.fixture(scope="module")
def address(progress: Path) -> Iterator[str]:
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    with serving.served(progress) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with watching.chromium() as opened:
        yield opened
