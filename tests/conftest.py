"""What all tests share: the option that writes the table of golden comparisons, and an end that cannot hang."""

from __future__ import annotations

import faulthandler
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.golden import ledger

settings.register_profile("alike", derandomize=True)  # the same examples everywhere: red is red for everyone
settings.load_profile("alike")


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Whatever ran before: a test that draws without a seed draws the same."""
    torch.manual_seed(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden-table", type=Path, help="write the table of golden comparisons to this file")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if path := session.config.getoption("--golden-table"):
        ledger.write_table(path)


def pytest_unconfigure() -> None:
    """A thread that some test left behind would keep the process for ever: after a minute it is shown."""
    faulthandler.dump_traceback_later(60, exit=True)
