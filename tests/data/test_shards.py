"""Shards of other people's: no name runs anything, none that is cut is a shorter set, none asks for what is not there.

The names with braces are those that the shell, and the package that writes shards, would make of them.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sfumato.data import DataError, braces, open_source, shards
from sfumato.data.prepare import prepare
from sfumato.data.shards import survey
from sfumato.data.stream import open_for_training

Files = list[tuple[str, bytes]]


def png(value: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, files: Files, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


FILES: Files = [("a.png", png(1)), ("a.cls", b"0"), ("b.png", png(2)), ("b.cls", b"1"), ("b.txt", b"two")]


@pytest.mark.parametrize("opening", [open_source, open_for_training])
def test_no_name_runs_a_command(opening: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of that name runs `pipe:` in a shell, and gives it `file:` and folders in front of it."""
    monkeypatch.chdir(tmp_path)
    name = "pipe:touch HACKED; cat good.tar"
    tar(tmp_path / "good.tar", FILES)
    (tmp_path / name).write_bytes((tmp_path / "good.tar").read_bytes())
    (tmp_path / "pipe:touch HACKED; cat 0.tar").write_bytes((tmp_path / "good.tar").read_bytes())

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refused)
    monkeypatch.setattr(os, "system", refused)
    for spec in (
        f"wds:./{name}", f"wds:file:{name}", f"wds:file:./{name}", f"wds:{{good.tar,{name}}}",
        f"wds:good.tar::./{name}", "wds:{pipe:,file:pipe:}touch HACKED; cat 0.tar",
    ):  # fmt: skip
        try:
            images = opening(spec)
        except DataError:
            continue
        assert len(images) in (2, 4)  # a file of a strange name is a file
    for spec in (f"wds:{name}", f"wds: {name}", f"wds:good.tar::{name}"):
        with pytest.raises(DataError, match="would run a command"):
            opening(spec)
    assert not (tmp_path / "HACKED").exists()


def test_a_cut_shard_is_an_error_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", FILES).read_bytes()
    end = 2 * 512 * len(FILES)
    for length in range(0, end + 512, 128):
        (tmp_path / "a.tar").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.tar is damaged"):
            survey(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(whole[:1024] + b"x" * 512 + whole[1536:])  # a header that is none
    with pytest.raises(DataError, match="no header of a file at byte 1,024"):
        survey(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(whole + whole)
    with pytest.raises(DataError, match="after its end"):
        survey(tmp_path / "a.tar")
    for kept in (whole, whole[: end + 512]):  # filled up as tapes are, or not
        (tmp_path / "a.tar").write_bytes(kept)
        assert survey(tmp_path / "a.tar") == (2, 1)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("a.png", png()), ("a.cls", b"1000000000000")], "0 to 65,535 at most, and one is 1,000,000,000,000"),
        ([("a.png", png()), ("a.cls", b"0"), ("b.png", png()), ("b.cls", b"-1")], r"'b\.cls'.* one is -1"),
        ([("a.png", png()), ("a.cls", b"cat")], r"'a\.cls' is no class number: 'cat'"),
        ([("a.png", png()), ("a.cls", b"\xff")], r"'a\.cls' is not in UTF-8"),
        ([("a.png", png()), ("a.cls", b"1" * 65)], "longer than such a text can be"),
        ([("a.png", png()), ("a.txt", b"\xe4")], r"'a\.txt' is not in UTF-8"),
        ([("a.png", png()), ("a.png", png())], r"holds 'a\.png' twice"),
        ([("a.png", png()), ("a.cls", b"0"), ("b.png", png())], "each with its class"),
        ([("a.heic", b"x")], "holds no images"),
    ],
)
def test_shards_that_are_wrong(files: Files, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        open_source(f"wds:{tar(tmp_path / 'a.tar', files)}")


def sparse(path: Path, name: str, size: int, kind: bytes = tarfile.REGTYPE, start: bytes = b"") -> Path:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    with path.open("wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT) + start)
        file.truncate(512 + size + 1024)
    return path


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE])
def test_eight_gigabytes_of_holes_are_not_read(kind: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.perf_counter()
    for name in ("a.png", "a.txt", "a.cls"):
        with pytest.raises(DataError, match="nearly all holes"):
            open_source(f"wds:{sparse(tmp_path / 'a.tar', name, 8 << 30, kind)}")
    monkeypatch.setattr("sfumato.data.tars.is_hollow", lambda *_: False)  # the same where no holes are told
    with pytest.raises(DataError, match=r"none of the 1|no images|a header of|sparse file"):
        open_source(f"wds:{sparse(tmp_path / 'a.tar', 'a.png', 8 << 30, kind)}")
    assert time.perf_counter() - began < 5


def test_links_and_compressed_shards_are_named(tmp_path: Path) -> None:
    with tarfile.open(tar(tmp_path / "a.tar", FILES), "a") as archive:
        member = tarfile.TarInfo("c.png")
        member.type, member.linkname = tarfile.LNKTYPE, "a.png"
        archive.addfile(member)
    with pytest.raises(DataError, match=r"'c\.png' is a link"):
        open_source(f"wds:{tmp_path / 'a.tar'}")
    for kind in ("gz", "bz2", "xz"):
        with pytest.raises(DataError, match=r"compressed .* unpack it first"):
            open_source(f"wds:{tar(tmp_path / 'a.tar', FILES, f'w:{kind}')}")
    os.mkfifo(tmp_path / "b.tar")
    with pytest.raises(DataError, match="a pipe, socket or device"):
        open_source(f"wds:{tmp_path / 'b.tar'}")


def test_what_macs_leave_in_archives(tmp_path: Path) -> None:
    files = [("./a.PNG", png()), ("./._a.png", b"x"), ("__MACOSX/a.png", b"x"), (".DS_Store", b"x"), ("./a.CLS", b"3")]
    images = open_source(f"wds:{tar(tmp_path / 'a.tar', files)}")
    assert images.keys == ("./a",)
    assert images.labels is not None
    assert images.labels.tolist() == [3]
    assert "no image in 3 of 4 classes: 0, 1, 2" in images.card.notes


def test_a_damaged_index(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", FILES)
    for index in (
        "[", "[]", '{"shards": [1]}', '{"shards": {"a.tar": [2]}}', '{"shards": {"a.tar": [-1, 0]}}', '{"classes": 3}',
        '{"classes": [1]}', '{"licence": 1}', "[" * 100_000,
    ):  # fmt: skip
        (tmp_path / shards.INDEX).write_text(index)
        with pytest.raises(DataError, match=r"shards\.json is damaged"):
            open_source(f"wds:{tmp_path / 'a.tar'}")
    (tmp_path / shards.INDEX).write_text(json.dumps({"shards": {"a.tar": [2, 10**12]}}))
    with pytest.raises(DataError, match="65,535 at most"):
        open_source(f"wds:{tmp_path / 'a.tar'}")


def test_they_hold_what_the_package_reads(tmp_path: Path) -> None:
    """Keys, pictures, labels and texts are those that webdataset finds in the same file."""
    webdataset = pytest.importorskip("webdataset")
    files = [*FILES, ("deep/c.seg.png", png(3)), ("deep/c.JPG", png(4)), ("deep/c.cls", b"0"), ("d.e/f.txt", b"x")]
    path = tar(tmp_path / "a.tar", files)
    made = prepare("digits?limit=30", tmp_path / "out", shard=30)
    assert isinstance(made, str)
    for shard in (path, tmp_path / "out" / "000000.tar"):
        theirs = []
        with shard.open("rb") as file:
            members = webdataset.tariterators.tar_file_expander([{"url": "x", "stream": file}])
            for sample in webdataset.tariterators.group_by_keys(members):
                pictures = [v for end, v in sample.items() if end.rpartition(".")[2] in ("png", "jpg")]
                if pictures:
                    theirs.append((sample["__key__"], pictures[0], int(sample["cls"]), sample.get("txt", b"").decode()))
        whole = shard.read_bytes()
        ours = [
            (r.key, whole[r.picture.offset : r.picture.offset + r.picture.size], r.label, r.text or "")  # type: ignore[union-attr]
            for r in shards.read(shard)
        ]
        assert ours == theirs


def test_keys_that_would_be_one(tmp_path: Path) -> None:
    """Dots in keys become underscores, and two pictures stay two."""
    for name in ("a.b.png", "a_b.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    pytest.importorskip("webdataset")
    spec = prepare(f"folder:{tmp_path}", tmp_path / "out", shard=10)
    assert len(open_source(str(spec))) == 2


# ---------------------------------------------------------------- braces


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{00..02}.tar", ["00.tar", "01.tar", "02.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..6..3}", ["0", "3", "6"]),
        ("{a..c}x", ["ax", "bx", "cx"]),
        ("{a,b{1,2}}-{x,}", ["a-x", "a-", "b1-x", "b1-", "b2-x", "b2-"]),
        ("{a}{}{1..b}", ["{a}{}{1..b}"]),
        ("{a,{b", ["{a,{b"]),
    ],
)
def test_braces(text: str, names: list[str]) -> None:
    assert braces.expanded(text, 100) == names
    words = ["bash", "-c", f"printf '%s\\n' {text}"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n") == [*names, ""]


@given(st.text("{},.ab01", max_size=14))
def test_braces_are_those_of_the_package(text: str) -> None:
    package = pytest.importorskip("braceexpand")
    try:
        theirs = list(package.braceexpand(text))
    except ValueError:  # it refuses what is not balanced
        return
    if ".." not in text:
        assert braces.expanded(text, 10_000) == theirs


def test_braces_are_counted_before(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than 4,096 letters"):
        braces.expanded("{" * 5000, 10)
    began = time.perf_counter()
    for text in ("{a,b}" * 22, "{0..999999999999}", "{{0..9999},{0..9999}}{0..9999}"):
        with pytest.raises(DataError, match="names"):
            open_source(f"wds:{tmp_path}/{text}")
    for text in ("{" * 2000 + "}" * 2000, "{a," * 800 + "}" * 800, "{a,b}" * 11):
        with pytest.raises((DataError, OSError)):
            open_source(f"wds:{tmp_path}/{text}")
    assert time.perf_counter() - began < 10
