"""`sfumato doctor`: what a bug report needs to know of this machine and of what is installed, as plain text or JSON.

It finds every fault that it can and fails at none. Neither the user's name nor the home folder is printed, nor is the
name of the machine.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sfumato.cli.findings import SECTIONS, Facts, reason


@dataclass(frozen=True)
class DoctorArguments:
    """Versions, devices, the compiled kernel, data sets, caches, memory and disk of this machine, for bug reports."""

    json: bool = False
    """The same as JSON."""


def doctor_command(arguments: list[str]) -> int:
    from sfumato.cli.parsing import parse

    parsed = parse(DoctorArguments, arguments, "sfumato doctor")
    found = examined()
    print(json.dumps(found, indent=2) if parsed.json else written(found))
    return 0


def examined() -> dict[str, Facts]:
    """Every section by its title; one that fails says so, and the others go on."""
    found: dict[str, Facts] = {}
    for title, section in SECTIONS.items():
        try:
            facts = section()
        except Exception as error:  # whatever is broken here is what is being looked for
            facts = {"failed": reason(error)}
        found[title] = {private(name): private(text) for name, text in facts.items()}
    return found


def written(found: Mapping[str, Facts]) -> str:
    """The sections as text, a line a fact."""
    width = max((len(name) for facts in found.values() for name in facts), default=0)
    return "\n\n".join(
        "\n".join([title, *(f"  {name:{width}}  {text}" for name, text in facts.items())])
        for title, facts in found.items()
    )


def private(text: str) -> str:
    """The text with ~ for the home folder, and USER for the user's name where it is a part of a path."""
    homes = {os.path.expanduser("~"), os.path.realpath(os.path.expanduser("~"))} - {"~", "/", ""}
    for home in sorted(homes, key=len, reverse=True):
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    names = {os.environ.get(variable, "") for variable in ("USER", "LOGNAME", "USERNAME")}
    with suppress(ImportError, KeyError, OSError):
        import pwd  # POSIX alone

        names.add(pwd.getpwuid(os.getuid()).pw_name)
    names |= {Path(home).name for home in homes}
    for name in names - {"", "root"}:
        text = re.sub(rf"(?<=[/\\]){re.escape(name)}(?![\w.-])", "USER", text)
    return text
