"""A folder of picture files: sub-folders are classes, or `labels` says them; captions lie beside or in one table.

Linked folders are followed, once each in a class; what systems and programs leave in folders is not looked at. What is
neither a picture nor a caption is counted, so that nothing is missed without a word.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sfumato.data import attributes, captions, labels
from sfumato.data.decoding import SUFFIXES
from sfumato.data.reading import Record, Shelf
from sfumato.data.spec import DataError, Spec

JUNK = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "Thumbs.db",
     "desktop.ini", "__pycache__"}
)  # fmt: skip
"""Names that systems leave in folders, besides all that begin with a dot (.DS_Store, .ipynb_checkpoints)."""

BESIDE = frozenset({".txt", ".csv", ".jsonl", ".json", ".md", ".html", ""})
"""Suffixes of what lies beside pictures and needs no word."""

FOLDERS = 100_000
"""The most folders that are looked into."""


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's."""
    return name.startswith(".") or name in JUNK


@dataclass
class _Found:
    """What lies in a folder."""

    pictures: list[Path] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    junk: set[str] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)

    def notes(self, classes: bool) -> tuple[str, ...]:
        """In words; `classes` is whether sub-folders are."""
        notes = []
        if self.junk:
            notes.append(f"not looked at: {', '.join(sorted(self.junk)[:8])}")
        if self.others:
            shown = ", ".join(f"{suffix} {n:,}" for suffix, n in self.others.most_common(6))
            notes.append(f"{self.others.total():,} files of other kinds left out: {shown}")
        with_pictures = {path.parts[0] for path in self.pictures if len(path.parts) > 1}
        if classes and with_pictures and (empty := sorted(self.folders - with_pictures)):
            shown = ", ".join(empty[:8]) + (", ..." if len(empty) > 8 else "")
            notes.append(f"{len(empty):,} folders without pictures are no classes: {shown}")
        return tuple(notes)


def shelf(spec: Spec) -> Shelf:
    """The pictures of a folder and its sub-folders, of which the first is the class unless ?labels= says it.

    Raises:
        DataError: there are none, or they and their labels do not go together.
    """
    root = Path(spec.rest)
    if not spec.rest or not root.is_dir():
        raise DataError(f"no folder {spec.rest!r} (a spec looks like folder:/path/to/images)")
    found, told = _walked(root), spec.labels
    relative, notes = sorted(found.pictures), found.notes(classes=not told)
    if not relative:
        others = f"; {notes[-1]}" if found.others else ""
        raise DataError(f"{root} holds no images ({', '.join(sorted(SUFFIXES))}){others}")
    named = labels.told(told, root, relative) if told else _by_folder(relative)
    classes = labels.classes_of(named, str(root)) if told else tuple(sorted(set(named)))
    numbers = {name: number for number, name in enumerate(classes)}
    texts = captions.table(root, len(relative))
    keys = [str(path) for path in relative]
    if texts and (missing := set(texts) - set(keys)):
        notes += (f"{len(missing):,} captions belong to no picture that is here, that of {min(missing)} for one",)

    posix = [path.as_posix() for path in relative]
    has = attributes.told(spec.options["attributes"], root, posix) if "attributes" in spec.options else None

    def record(i: int) -> Record:
        label = numbers[named[i]] if classes else None
        text = texts.get(keys[i]) or captions.beside(root / relative[i])
        return Record(root / relative[i], label, text, keys[i], None if has is None else has.row(i))

    lines = [f"{key}\0{name}" for key, name in zip(keys, named, strict=True)] if told else keys
    lines = lines if has is None else [*lines, has.digest]
    names = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
    return Shelf.of_rows(
        spec, str(root), len(keys), record, names, classes, notes=notes, named=() if has is None else has.names
    )  # fmt: skip


def _walked(root: Path) -> _Found:
    """All that lies below a folder. A folder that links lead to is read once in each class, so that no loop is endless.

    Raises:
        DataError: a folder that may not be read, or too many of them.
    """
    found, seen, waiting = _Found(), set[tuple[str, int, int]](), [Path()]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(root / folder)
            place = (folder.parts[0] if folder.parts else "", status.st_dev, status.st_ino)
            if place in seen:
                continue
            seen.add(place)
            if len(seen) > FOLDERS:
                raise DataError(f"{root} has more than {FOLDERS:,} folders; name one that holds the pictures alone")
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    _enter(entry, folder / entry.name, found, waiting)
        except OSError as error:
            raise DataError(f"{root / folder} cannot be read: {error.strerror}") from None
    return found


def _enter(entry: os.DirEntry[str], path: Path, found: _Found, waiting: list[Path]) -> None:
    if is_junk(entry.name):
        found.junk.add(entry.name)
    elif entry.is_dir():
        waiting.append(path)
        if len(path.parts) == 1:
            found.folders.add(entry.name)
    elif path.suffix.lower() in SUFFIXES:
        found.pictures.append(path)  # a pipe or a dangling link among them is said where it is read
    elif path.suffix.lower() not in BESIDE:
        found.others[path.suffix.lower()] += 1


def _by_folder(relative: list[Path]) -> list[str]:
    """The class of each picture by its sub-folder; none where there are no sub-folders."""
    named = [path.parts[0] if len(path.parts) > 1 else "" for path in relative]
    if not any(named):
        return []
    if not all(named):
        raise DataError("some images lie in sub-folders (which are classes) and some do not; move one or the other")
    return named
