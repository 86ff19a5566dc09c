"""Licences by the identifiers that model hubs know (mostly SPDX's, in small letters)."""

from __future__ import annotations

from sfumato.spec import unknown

LICENCES = (
    "apache-2.0", "mit", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "bsd-2-clause",
    "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense", "wtfpl", "artistic-2.0", "afl-3.0", "bsl-1.0",
    "ecl-2.0", "epl-2.0", "eupl-1.2", "mpl-2.0", "ms-pl", "ncsa", "osl-3.0", "postgresql", "gpl-2.0", "gpl-3.0",
    "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "gfdl", "odbl", "odc-by", "pddl", "openrail", "openrail++",
    "creativeml-openrail-m", "bigscience-openrail-m", "other",
)  # fmt: skip


def licence_of(word: str) -> str:
    """The identifier; ValueError names the nearest for a word that is none."""
    found = word.lower()
    if found not in LICENCES:
        raise ValueError(unknown("licence", word, LICENCES))
    return found
