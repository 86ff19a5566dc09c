"""Folders as people have them: links, what systems leave behind, odd suffixes, tables of captions in odd encodings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image, features

from sfumato.data import DataError, folders, open_source


def write(path: Path, kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path, kind)


def test_linked_classes_are_there_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "deep" / "1.png")
    root = tmp_path / "set"
    write(root / "cat" / "1.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "loop").symlink_to(root)
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    images = open_source(f"folder:{root}")
    assert images.classes == ("cat", "dog")
    assert "dog/deep/1.png" in images.keys
    assert [key for key in images.keys if key.startswith("cat/1")] == ["cat/1.png"]
    assert len(images) < 10
    (root / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    assert any(entry.startswith("cat/gone.png (No such file") for entry in open_source(f"folder:{root}").card.corrupt)


def test_what_systems_leave_is_not_looked_at(tmp_path: Path) -> None:
    for name in ("1.png", "cat/2.png"):
        write(tmp_path / "set" / "all" / name)
    for junk in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".thumbnails"):
        write(tmp_path / "set" / junk / "1.png")
        write(tmp_path / "set" / "all" / junk / "1.png")
    for junk in ("._1.png", ".DS_Store", "Thumbs.db"):
        (tmp_path / "set" / "all" / junk).write_bytes(b"x")
    images = open_source(f"folder:{tmp_path / 'set'}")
    assert images.classes == ("all",)
    assert images.keys == ("all/1.png", "all/cat/2.png")
    assert not images.card.corrupt
    assert any("not looked at" in note and "__MACOSX" in note for note in images.card.notes)


def test_suffixes(tmp_path: Path) -> None:
    avif = "AVIF" if features.check("avif") else "PNG"  # the content says which it is
    for name, kind in (("a.jfif", "JPEG"), ("b.AVIF", avif), ("c.JPG", "JPEG"), ("d.PNG", "PNG"), ("e.pbm", "PPM")):
        write(tmp_path / name, kind)
    (tmp_path / "f.heic").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    images = open_source(f"folder:{tmp_path}")
    assert images.keys == ("a.jfif", "b.AVIF", "c.JPG", "d.PNG", "e.pbm")
    assert "1 files of other kinds left out: .heic 1" in images.card.notes
    for path in tmp_path.glob("?.[!h]*"):
        path.unlink()
    with pytest.raises(DataError, match=r"no images .*\.heic 1"):
        open_source(f"folder:{tmp_path}")


def test_classes_without_pictures_are_said(tmp_path: Path) -> None:
    for name in ("ant/1.png", "bee/1.png", "bee/2.png", "cow/1.png"):
        write(tmp_path / name)
    (tmp_path / "dog").mkdir()
    images = open_source(f"folder:{tmp_path}")
    assert images.classes == ("ant", "bee", "cow")
    assert "1 folders without pictures are no classes: dog" in images.card.notes
    notes = open_source(f"folder:{tmp_path}?limit=2").card.notes
    assert "?limit keeps the first 2 of 4" in notes
    assert "no image in 1 of 3 classes: cow" in notes
    notes = open_source(f"folder:{tmp_path}?classes=bee,cow&limit=2").card.notes
    assert "no image in 1 of 2 classes: cow" in notes
    notes = open_source("digits?limit=3").card.notes
    assert any(note.startswith("no image in 7 of 10 classes") for note in notes)
    assert "?limit keeps the first 3 of 1,498" in notes


def test_a_folder_that_may_not_be_read_is_no_missing_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "cat" / "1.png")
    write(tmp_path / "dog" / "1.png")
    scandir = os.scandir

    def denied(path: Path) -> object:
        if path.name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", denied)
    with pytest.raises(DataError, match="dog cannot be read: Permission denied"):
        open_source(f"folder:{tmp_path}")


def test_too_many_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "FOLDERS", 3)
    for i in range(4):
        write(tmp_path / str(i) / "1.png")
    with pytest.raises(DataError, match="more than 3 folders"):
        open_source(f"folder:{tmp_path}")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xe4\x1b[31m.png")
    images = open_source(f"folder:{tmp_path}")
    assert len(images) == 1
    (tmp_path / images.keys[0]).write_bytes(b"x")
    write(tmp_path / "b.png")
    text = str(open_source(f"folder:{tmp_path}").card)
    assert r"\xe4\x1b[31m.png" in text
    text.encode()


# ---------------------------------------------------------------- captions


def test_tables_of_captions(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    table = tmp_path / "metadata.csv"
    for content in ("\ufefffile_name,text\na.png,a cät\n", 'file_name,text\r\n"a.png","a cät"\r\n'):
        table.write_bytes(content.encode())
        assert open_source(f"folder:{tmp_path}").texts == ("a cät",)
    table.write_text("file_name,text\na.png,one\nb.png,two\n")
    assert any("1 captions belong to no picture" in note for note in open_source(f"folder:{tmp_path}").card.notes)
    for content, words in (
        ("file_name,text\na.png,one\na.png,cät\n".encode("latin-1"), r"metadata\.csv, row 3 is not in UTF-8 .*Latin-1"),
        ("file_name,text\na.png,one\n".encode("utf-16"), r"metadata\.csv, row 1 is not in UTF-8"),
        (b"file_name,text\na.png\n", r"metadata\.csv, row 2: every row has file_name and text"),
        (b"name;text\na.png;one\n", r"metadata\.csv, row 2: every row has"),
        (b"file_name,text\na.png," + b"x" * 200_000, r"metadata\.csv, row \d: field larger"),
    ):
        table.write_bytes(content)
        with pytest.raises(DataError, match=words):
            open_source(f"folder:{tmp_path}")
    lines = tmp_path / "metadata.jsonl"
    for content, words in (
        (b'{"file_name": "a.png", "text": "one"}\n{"file_name"\n', r"metadata\.jsonl, row 2 is no JSON"),
        (b'\n{"file_name": "a.png", "text": "\xe4"}\n', r"metadata\.jsonl, row 2 is not in UTF-8"),
        (b'{"file_name": "a.png", "text": 7}\n', r"metadata\.jsonl, row 1: every row"),
        (b"[" * 100_000, r"metadata\.jsonl, row 1 is no JSON"),
    ):
        lines.write_bytes(content)
        with pytest.raises(DataError, match=words):
            open_source(f"folder:{tmp_path}")
    lines.write_bytes(b'\xef\xbb\xbf{"file_name": "a.png", "text": "one"}\n')
    assert open_source(f"folder:{tmp_path}").texts == ("one",)
    with lines.open("r+b") as file:
        file.truncate(2**33)
    with pytest.raises(DataError, match=r"metadata\.jsonl: larger than"):
        open_source(f"folder:{tmp_path}")


def test_captions_beside_pictures(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    beside = tmp_path / "a.txt"
    beside.write_bytes("\ufeffcät\n".encode())
    assert open_source(f"folder:{tmp_path}").texts == ("cät",)
    beside.write_bytes("cät\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt is not in UTF-8"):
        open_source(f"folder:{tmp_path}")


# ---------------------------------------------------------------- paths in specs


def test_home_and_question_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "set" / "a.png")
    write(tmp_path / "what?" / "a.png")
    write(tmp_path / "a?b=c" / "a.png")
    monkeypatch.chdir(tmp_path)
    for spec, side in (
        ("folder:~/set", 8),
        ("folder:~/set?size=4", 4),
        ("folder:what??", 8),
        ("folder:what??size=4", 4),
        (f"folder:{tmp_path}/what?/", 8),
        ("folder:a?b=c?", 8),
        ("folder:a?b=c?size=4", 4),
    ):
        assert open_source(spec).shape == (3, side, side)
    with pytest.raises(DataError, match=r"no folder 'set\?size'"):
        open_source("folder:set?size")
    with pytest.raises(DataError, match="unknown option 'colour'"):
        open_source("folder:set?colour=red")
