"""Folders of pictures with junk, links, loops, FIFOs, odd names, deep trees and tables of captions that are damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile import materials as m
from tests.hostile.case import ACCEPT, EITHER, REFUSE, Case, short

FOLDER = "pictures"
VERBS = (["inspect", f"folder:{FOLDER}"], ["prepare", f"folder:{FOLDER}", "out"],
         ["train", "ddpm/digits", "--data", f"folder:{FOLDER}", *m.TINY, "--out", "out"],
         ["inspect", f"folder:{FOLDER}?limit=2"])


def _case(name: str, change: Callable[[Path], object], i: int = 0, expect: str = EITHER,
          check: Callable[[Path, str], str | None] | None = None, flat: bool = False, heavy: bool = False) -> Case:
    def build(folder: Path) -> list[str]:
        if flat:
            (folder / FOLDER).mkdir()
            for n in range(3):
                (folder / FOLDER / f"{n}.png").write_bytes(m.png())
        else:
            m.copied("images", folder / FOLDER)
        change(folder / FOLDER)
        return VERBS[i % len(VERBS)]

    return Case("folders", name, build, expect, check, heavy=heavy)


def says(*words: str) -> Callable[[Path, str], str | None]:
    """What must stand in the card."""
    return lambda work, said: next((f"it does not say {word!r}" for word in words if word not in said), None)


def without(*words: str) -> Callable[[Path, str], str | None]:
    return lambda work, said: next((f"it says {word!r}" for word in words if word in said), None)


JUNK = (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", ".cache", "$RECYCLE.BIN")
"""Folders that systems leave, which are no classes."""


def _junk() -> Iterator[Case]:
    yield _case("whole", lambda f: None, 0, ACCEPT, says("class0", "class2"))
    for i, name in enumerate(JUNK):
        def junk(folder: Path, name: str = name) -> None:
            (folder / name).mkdir()
            (folder / name / "00.png").write_bytes(m.png())
        for verb in (0, 1):
            yield _case(f"{name} {verb}", junk, verb, ACCEPT if name in JUNK[:4] else EITHER,
                        without(name + ":", name + " ") if i < 3 else None)
        yield _case(f"{name} in a class", lambda f, name=name: ((f / "class0" / name).mkdir(),
            (f / "class0" / name / "00.png").write_bytes(m.png())), i)
    for i, name in enumerate((".DS_Store", "Thumbs.db", "desktop.ini", "._00.png", "README.md", "x.txt", "~$x.png",
                              "00.png.part", "model.py", "x.png ")):
        yield _case(f"a file {name}", lambda f, name=name: (f / "class0" / name).write_bytes(b"junk\x00"), i)
        yield _case(f"a file {name} above", lambda f, name=name: (f / name).write_bytes(b"junk\x00"), i)
    yield _case("an empty class", lambda f: (f / "empty").mkdir())
    yield _case("empty", lambda f: [child.rename(f.parent / child.name) for child in f.iterdir()], expect=REFUSE)


def _links() -> Iterator[Case]:
    for i in range(len(VERBS)):
        yield _case(f"a FIFO {i}", lambda f: os.mkfifo(f / "class0" / "x.png"), i)
        yield _case(f"a loop of folders {i}", lambda f: (f / "class0" / "again").symlink_to(".."), i)
        yield _case(f"a loop of links {i}", lambda f: (f / "class0" / "x.png").symlink_to("x.png"), i)
        yield _case(f"a link to nothing {i}", lambda f: (f / "class0" / "x.png").symlink_to("nowhere"), i)
        yield _case(f"a link to a device {i}", lambda f: (f / "class0" / "x.png").symlink_to("/dev/zero"), i)
        yield _case(f"an unreadable file {i}", lambda f: (f / "class0" / "00.png").chmod(0), i)
        yield _case(f"an unreadable folder {i}", lambda f: (f / "class0").chmod(0), i)
        yield _case(f"a folder named as a picture {i}", lambda f: (f / "class0" / "x.png").mkdir(), i)
    yield _case("a linked class", lambda f: ((f / "class0").rename(f.parent / "elsewhere"),
                                             (f / "class0").symlink_to("../elsewhere")), 0, ACCEPT, says("class0"))
    yield _case("a link to all", lambda f: (f / "class0" / "x").symlink_to("/"), 0, EITHER)
    yield _case("a sparse picture of 8 GB", lambda f: os.truncate(os.open(f / "class0" / "x.png", os.O_CREAT |
        os.O_RDWR), 8 << 30), 0)
    yield _case("a caption of 8 GB", lambda f: os.truncate(os.open(f / "class0" / "00.txt", os.O_CREAT | os.O_RDWR),
                                                           8 << 30), 0)
    yield _case("a caption that is a FIFO", lambda f: os.mkfifo(f / "class0" / "00.txt"))
    yield _case("a caption that is a folder", lambda f: (f / "class0" / "00.txt").mkdir())
    yield _case("a caption that is not text", lambda f: (f / "class0" / "00.txt").write_bytes(b"\xff\xfe\x00"))
    yield _case("the folder is a FIFO", lambda f: (f.rename(f.parent / "x"), os.mkfifo(f)), expect=REFUSE)
    yield _case("the folder is a file", lambda f: (f.rename(f.parent / "x"), f.write_bytes(b"x")), expect=REFUSE)
    yield _case("the folder is a loop", lambda f: (f.rename(f.parent / "x"), f.symlink_to(f.name)), expect=REFUSE)
    yield _case("the folder is unreadable", lambda f: f.chmod(0), expect=REFUSE)


def _names() -> Iterator[Case]:
    names = ("\x1b[31mred", "a\nb", "-rf", "$(touch HACKED)", "`touch HACKED`", "a\u202eb", "\udcff", "x" * 200, " ",
             "é", "e\u0301", "日本", "a,b", "a?b", "a=b&c", "{a,b}", "..a", "%s", "'", "#", "\x07", "\r")
    for i, name in enumerate(names):
        yield _case(f"a class named {short(name)}", lambda f, name=name: (f / "class0").rename(f / name), i % 2)
        yield _case(f"a picture named {short(name)}", lambda f,
                    name=name: (f / "class0" / "00.png").rename(f / "class0" / f"{name}.png"), i % 2)
        yield _case(f"a damaged picture named {short(name)}", lambda f,
                    name=name: (f / "class0" / f"{name}.png").write_bytes(b"x"), i % 2)
    def deep(folder: Path) -> None:
        here = folder / "class0"
        for _ in range(1000):
            here = here / "d"
            here.mkdir()
        (here / "x.png").write_bytes(m.png())
    def deeper(folder: Path) -> None:
        os.chdir(folder / "class0")
        for _ in range(3000):
            os.mkdir("d" * 10)
            os.chdir("d" * 10)
        os.chdir(folder.parent)
    yield _case("1,000 folders deep", deep)
    yield _case("3,000 folders deep, longer than a path", deeper, heavy=True)
    yield _case("20,000 classes", lambda f: [((f / f"c{i}").mkdir(),
                                              (f / f"c{i}" / "0.png").symlink_to("../class0/00.png"))
                                              for i in range(20_000)], heavy=True)
    yield _case("pictures beside classes", lambda f: (f / "x.png").write_bytes(m.png()))
    yield _case("other sizes", lambda f: (f / "class0" / "x.png").write_bytes(m.png(1, 9)), expect=REFUSE)
    yield _case("other colours", lambda f: (f / "class0" / "x.png").write_bytes(m.png(3)), expect=REFUSE)


def _captions() -> Iterator[Case]:
    tables = {
        "metadata.csv": (b"", b"file_name\n", b"x,y\n1,2\n", b"file_name,text\n0.png\n",
                         b"file_name,text\n0.png,a,b,c\n", b"\xef\xbb\xbffile_name,text\n0.png,a\n",
                         b"file_name,text\n0.png,\xe9\n",
                         b'file_name,text\n0.png,"open\n', b"file_name,text\n" + b"x" * 200_000 + b",a\n",
                         b"file_name,text\n0.png,\x00\n", b"\xff\xfe" + "file_name,text\n".encode("utf-16-le"),
                         b"file_name,text\n0.png," + b"y" * 200_000 + b"\n", b"file_name,text\n../../x,\x1b[31m\n",
                         b"file_name,text\n0.png,\x1b[31m\n", b"file_name,file_name,text\na,b,c\n"),
        "metadata.jsonl": (b"", b"{", b"[]", b"null", b"1", b"{}", b'{"file_name": 1, "text": 2}',
                           b'{"file_name": "0.png", "text": null}', b'{"file_name": "0.png", "text": ["a"]}',
                           b'{"a":' * 50_000,
                           b"9" * 6000, b"\xff\xfe", b'\xef\xbb\xbf{"file_name": "0.png", "text": "a"}',
                           b'{"file_name": ["0.png"], "text": "a"}', b'{"file_name": "0.png", "text": "\\u001b[31m"}',
                           b'{"file_name": "0.png", "text": "\\ud800"}', b'{"file_name": "0.png", "text": {}}'),
    }
    for file, contents in tables.items():
        for i, content in enumerate(contents):
            yield _case(f"{file} {short(content)}", lambda f, file=file,
                        content=content: (f / file).write_bytes(content), i % 2, flat=True)
        yield _case(f"{file} a FIFO", lambda f, file=file: os.mkfifo(f / file), flat=True)
        yield _case(f"{file} a folder", lambda f, file=file: (f / file).mkdir(), flat=True)
        yield _case(f"{file} unreadable", lambda f, file=file: ((f / file).write_bytes(b"x"), (f / file).chmod(0)),
                    flat=True)
        yield _case(f"{file} of 8 GB", lambda f, file=file: os.truncate(os.open(f / file, os.O_CREAT | os.O_RDWR),
            8 << 30), flat=True)


def cases() -> Iterator[Case]:
    yield from _junk()
    yield from _links()
    yield from _names()
    yield from _captions()
