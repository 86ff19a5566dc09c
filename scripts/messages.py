"""The catalogues of the learning path's translations, sfumato/learn/languages/LANGUAGE/NAME.po, kept up to date.

    python scripts/messages.py spiral          write or renew a lesson's catalogue (or pages, reference, teacher)
    python scripts/messages.py                 renew every catalogue that there is
    python scripts/messages.py --check spiral  what is not yet translated or translatable, or wrong; write nothing

Messages (`messages_found`) are the texts of the calls in `TEXTS`, assertions of the checks, and `tr("...")` of the
scripts in pages. A lesson's catalogue holds its notebook, derivations, checks and program. Translations are kept; those
of a text that has changed a little are marked as fuzzy, those of a text that is gone as obsolete.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import polib
from messages_found import CODE, FORMULA, Finder, Found, plain

from sfumato.learn import languages, playground
from sfumato.learn.catalogue import CATALOGUE
from sfumato.learn.languages import web

ROOT = Path(__file__).parents[1] / "sfumato" / "learn"
LESSONS = tuple(known.name for known in CATALOGUE)
FORMAT = "python-brace-format"
HEADER = {"Project-Id-Version": "sfumato", "MIME-Version": "1.0", "Content-Type": "text/plain; charset=utf-8",
          "Content-Transfer-Encoding": "8bit"}  # fmt: skip

# ---------------------------------------------------------------- files and catalogues


def files(name: str) -> list[Path]:
    """The files whose messages a catalogue holds. ValueError for an unknown one."""
    if name in LESSONS:
        parts = [ROOT / folder / f"{name}.py" for folder in ("lessons", "derivations", "checks", "programs")]
        return [path for path in parts if path.exists()]
    if name in ("reference", "teacher"):
        return sorted((ROOT / name).glob("*.py"))
    if name != "pages":
        raise ValueError(f"no catalogue is called {name!r}; there are: pages, reference, teacher, {', '.join(LESSONS)}")
    others = {path for known in (*LESSONS, "reference", "teacher") for path in files(known)}
    paths = sorted(
        path for path in ROOT.rglob("*") if path.suffix in (".py", ".js", ".html") and ".min." not in path.name
    )
    return [path for path in paths if path not in others and "languages" not in path.parts]


def find(name: str) -> Found:
    """The messages of a catalogue."""
    found = Found()
    for path in files(name):
        text, file = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        if path.suffix == ".py":
            Finder(file, ast.parse(text), found)
            continue
        if path.suffix == ".html":
            for shown in web.SHOWN.findall(text.partition("<body>")[2]):
                found.add(" ".join(shown.split()), file, False)
            for title in re.findall("<title>(.*?)</title>", text):
                found.add(title, file, False)
            continue
        for literal in re.findall(r'\btr\(("(?:[^"\\]|\\.)*")', text):
            message = json.loads(literal)
            found.add(message, file, bool(re.search(r"\{\w+\}", message)))
    if name == "pages":  # what the playground says of its models
        for about in (playground.OWN, *playground.Shelf().titles.values()):
            found.add(about, "playground/__init__.py", False)
    return found


def path_of(language: str, name: str) -> Path:
    """The file of a catalogue."""
    return languages.CATALOGUES / language / f"{name}.po"


def renew(language: str, name: str) -> polib.POFile:
    """A catalogue with every message of now, and the translations that there are."""
    path, found = path_of(language, name), find(name)
    before = {entry.msgid: entry for entry in polib.pofile(str(path))} if path.exists() else {}
    elsewhere = languages.messages(language)
    made = polib.POFile(wrapwidth=110)
    made.metadata = {**HEADER, "Language": languages.TAGS[language].replace("-", "_")}
    gone = {text: entry for text, entry in before.items() if entry.msgstr and text not in found.places}
    for text, places in found.places.items():
        old = before.get(text)
        entry = polib.POEntry(msgid=text, msgstr=old.msgstr if old else elsewhere.get(text, ""))
        entry.occurrences = [(file, "") for file in places]
        entry.flags = [FORMAT] if text in found.formats else []
        entry.tcomment = old.tcomment if old else ""
        near = [] if entry.msgstr else difflib.get_close_matches(text, gone, 1, 0.75)
        if near:
            entry.msgstr, entry.flags = gone[near[0]].msgstr, [*entry.flags, "fuzzy"]
        elif old and old.fuzzy:
            entry.flags.append("fuzzy")
        made.append(entry)
    for text, entry in gone.items():
        made.append(polib.POEntry(msgid=text, msgstr=entry.msgstr, obsolete=True))
    return made


# ---------------------------------------------------------------- what is wrong

ADDRESS = re.compile(r"\]\(([^)\s]+)\)")
CHINESE = "[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"


def kept(text: str) -> dict[str, Counter[str]]:
    """What a translation holds as often as the text does, by kind."""
    code = CODE.findall(text)
    formulas = FORMULA.findall(CODE.sub(" ", text))
    tables = [str(line.count("|")) for line in plain(text).splitlines() if line.lstrip().startswith("|")]
    return {"code": Counter(code), "formulas": Counter(re.sub(r"\s+", " ", f) for f in formulas),
            "links": Counter(ADDRESS.findall(text)), "cells of a table": Counter(tables)}  # fmt: skip


def values(text: str) -> Counter[str]:
    """The placeholders of a format string, with their format specifications. ValueError where it is none."""
    return Counter(f"{{{name}!{how}:{spec}}}" for _, name, spec, how in Formatter().parse(text) if name is not None)


def faults(entry: polib.POEntry) -> Iterator[str]:
    """What is wrong with a translation."""
    text, said = entry.msgid, entry.msgstr
    for kind, wanted in kept(text).items():
        if kept(said)[kind] != wanted:
            differ = (wanted - kept(said)[kind]) + (kept(said)[kind] - wanted)
            yield f"other {kind}: {', '.join(sorted(differ))}"
    if FORMAT in entry.flags:
        try:
            if values(text) != values(said):
                yield f"other values: {sorted(values(text))} and {sorted(values(said))}"
        except ValueError as error:
            yield f"not a format string: {error}"
    if re.search(f"{CHINESE}\n{CHINESE}", said):
        yield "a paragraph is broken into lines, which shows as a gap"
    for end in (str.lstrip, str.rstrip):
        if (end(text) != text) != (end(said) != said):
            yield "spaces or line breaks at an end differ"


def check(language: str, name: str) -> list[str]:
    """Everything that is missing or wrong in a catalogue."""
    found, path = find(name), path_of(language, name)
    have = {entry.msgid: entry for entry in polib.pofile(str(path)) if not entry.obsolete} if path.exists() else {}
    lines = list(found.problems)
    for text in found.places:
        start = f"{path.name}: {text[:60]!r}"
        entry = have.get(text)
        if entry is None or not entry.msgstr:
            lines.append(f"{start}: not translated")
        elif entry.fuzzy:
            lines.append(f"{start}: the text has changed; look, and take the word fuzzy away")
        else:
            lines += [f"{start}: {fault}" for fault in faults(entry)]
            if (text in found.formats) != (FORMAT in entry.flags):
                lines.append(f"{start}: whether it is a format string has changed: run scripts/messages.py")
    lines += [f"{path.name}: {text[:60]!r}: no such text any more: run scripts/messages.py"
              for text in have if text not in found.places]  # fmt: skip
    return lines


def conflicts(language: str) -> list[str]:
    """Texts that two catalogues translate differently."""
    seen: dict[str, tuple[str, str]] = {}
    lines = []
    for path in sorted((languages.CATALOGUES / language).glob("*.po")):
        for entry in polib.pofile(str(path)).translated_entries():
            other, said = seen.setdefault(entry.msgid, (path.name, entry.msgstr))
            if said != entry.msgstr:
                lines.append(f"{entry.msgid[:60]!r} is {said!r} in {other} and {entry.msgstr!r} in {path.name}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check the catalogues of translations.")
    parser.add_argument("names", nargs="*", help="lessons, or pages, reference, teacher; else all that there are")
    parser.add_argument("--check", action="store_true", help="say what is missing or wrong; write nothing")
    parser.add_argument("--language", default="zh")
    given = parser.parse_args()
    there = sorted(path.stem for path in (languages.CATALOGUES / given.language).glob("*.po"))
    lines = []
    for name in given.names or there:
        if given.check:
            lines += check(given.language, name)
            continue
        made = renew(given.language, name)
        made.save(str(path_of(given.language, name)))
        print(f"{name}.po: {len(made.translated_entries())} of {len(find(name).places)} messages translated")
        lines += find(name).problems
    lines += conflicts(given.language)
    print(*lines, sep="\n", end="\n" * bool(lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
