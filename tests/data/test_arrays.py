"""npz, IDX files and memory maps that are damaged or ask for too much: one line, before the memory is taken."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.data import DataError, open_source
from sfumato.data.installed import read_idx
from sfumato.data.npz import arrays
from sfumato.data.prepare import prepare

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def member(shape: tuple[int, ...], content: bytes = b"", kind: str = "|u1") -> bytes:
    """An npy file whose header and contents need not agree."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + content


def packed(path: Path, **members: bytes) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return f"npz:{path}"


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    images = io.BytesIO()
    np.save(images, PIXELS)
    spec = packed(tmp_path / "a.npz", images=images.getvalue(), other=member((2**40,)), broken=b"no array")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert torch.equal(open_source(spec).images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    with arrays(tmp_path / "a.npz") as found:
        assert found.names == ("images", "other", "broken")
        with pytest.raises(DataError, match=r"a\.npz: .* expand to 1099\.5 GB"):
            found["other"]
    np.save(tmp_path / "b.npy", np.asfortranarray(PIXELS))
    assert torch.equal(open_source(f"npz:{tmp_path / 'b.npy'}").images, open_source(spec).images)


@pytest.mark.parametrize(
    ("shape", "content", "words"),
    [
        ((4096, 1024, 1024), b"", "expand to 4.3 GB"),
        ((2**62, 8, 8), b"", "expand to"),
        ((3, 8, 8), bytes(100), "ends after 100 of 192 bytes"),
        ((3, 8, 8), bytes(200), "more than the 192 bytes"),
        ((-3, 8, 8), b"", "damaged"),
        ((0, 8, 8), b"", "images are uint8"),
        ((3, 0, 8), b"", "images are uint8"),
        ((8, 8, 3), bytes(192), r"8x8x3 is one image \(H, W, C\); .*images\[None\]"),
        ((1, 17, 17, 17), bytes(4913), r"1 to 16 channels"),
        ((3, 8, 8, 8), bytes(1536), r"may be \(N, H, W, C\) or \(N, C, H, W\); say"),
        ((3, 18, 18, 17), bytes(16524), "3x18x18x17 does not have 1 to 16 channels"),
    ],
)
def test_claims_of_a_header(shape: tuple[int, ...], content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        open_source(packed(tmp_path / "a.npz", images=member(shape, content)))


def test_other_kinds_of_files_and_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for content, words in (
        (member((3, 8, 8), bytes(768), "<f4"), r"float32 from 0 to 0: say what .*values=0,1"),
        (b"\x80\x04K\x01.", "neither an npz nor an npy file"),
        (b"", "neither an npz nor an npy file"),
        (b"PK\x03\x04" + bytes(100), "damaged"),
        (b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little"), "a header of 4,294,967,295 bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=words):
            open_source(f"npz:{path}")
    with path.open("wb") as file:
        file.write(member((8, 1024, 1024, 1024)))
        file.truncate(8 << 30)
    with pytest.raises(DataError, match="expand to"):
        open_source(f"npz:{path}")
    os.remove(path)
    os.mkfifo(path)
    with pytest.raises(DataError, match="a pipe, socket or device"):
        open_source(f"npz:{path}")


@pytest.mark.parametrize("number", [10**12, 65_536, -1])
def test_labels_that_nobody_can_mean(number: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=np.array([0, 1, number]))
    with pytest.raises(DataError, match=f"65,535 at most, and one is {number:,}"):
        open_source(f"npz:{tmp_path / 'a.npz'}")


def test_gaps_in_labels_are_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=np.array([1, 2, 20]))
    notes = open_source(f"npz:{tmp_path / 'a.npz'}").card.notes
    assert any(note.startswith("no image in 18 of 21 classes: 0, 3, 4") for note in notes)


def test_any_damage_of_an_npz_is_found(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=PIXELS, labels=np.arange(3))
    whole, images = (tmp_path / "a.npz").read_bytes(), open_source(f"npz:{tmp_path / 'a.npz'}")
    for place in range(0, len(whole), 5):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]):
            (tmp_path / "a.npz").write_bytes(damaged)
            try:
                found = open_source(f"npz:{tmp_path / 'a.npz'}")
            except DataError:
                continue
            assert torch.equal(found.images, images.images)  # a date, say


def test_enlarging_is_bounded() -> None:
    for spec in ("digits?size=4096", "emoji32?size=1024", "dead_leaves?size=512"):
        with pytest.raises(DataError, match=r"enlarged|too long"):
            open_source(spec)
    with pytest.raises(DataError, match="at most 4,096, not 100,000"):
        open_source("digits?size=100000")
    assert open_source("digits?size=64").shape == (1, 64, 64)


@pytest.mark.parametrize(
    "option", ["size=-3", "size=nan", "size=1e3", "size=²", "size=3.5", "limit=-1", "limit=0", f"limit={'9' * 3000}",
    "channels=-1", "background=nan", "background=1,2,²", "background=1,2,0300", "seed=1"],
)  # fmt: skip
def test_numbers_in_specs(option: str) -> None:
    with pytest.raises(DataError, match=r"above 0|cannot make|from 1 to 16|R,G,B|unknown option"):
        open_source(f"digits?{option}")


def test_a_spec_that_is_too_long_is_quoted_in_part() -> None:
    with pytest.raises(DataError, match="is no data spec: it has 9,007 letters") as found:
        open_source("folder:" + "x" * 9000)
    assert len(str(found.value)) < 200


def test_idx_files_that_claim_too_much(tmp_path: Path) -> None:
    head = bytes([0, 0, 8, 3]) + np.array([60_000, 2**16, 2**16], ">u4").tobytes()
    for name, content, words in (
        ("a", head + bytes(100), "claims 257,698,037,760,000 bytes"),
        ("a.gz", gzip.compress(head + bytes(2**20)), "claims"),
        ("a.gz", b"\x1f\x8b" + bytes(50), "damaged"),
        ("a", bytes([0, 0, 8, 200]), "not an IDX file of bytes with 3 axes"),
        ("a", bytes([0, 0, 8, 3]) + np.array([2, 2, 2], ">u4").tobytes() + bytes(9), "damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_idx(tmp_path / name, 3)


# ---------------------------------------------------------------- memory maps


def test_any_damage_of_a_map_is_found(tmp_path: Path) -> None:
    prepare("digits?limit=4", tmp_path / "out")
    spec, whole = f"map:{tmp_path / 'out'}", open_source(f"map:{tmp_path / 'out'}")
    for path in sorted((tmp_path / "out").iterdir()):
        content = path.read_bytes()
        for place in range(0, len(content), 7):
            for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]):
                path.write_bytes(damaged)
                try:
                    found = open_source(spec)
                except DataError:
                    continue
                str(found.card)
                assert torch.equal(found.images, whole.images)  # a name or a number of the card
                assert torch.equal(found.labels, whole.labels)  # type: ignore[arg-type]
        path.write_bytes(content)
    assert torch.equal(open_source(spec).images, whole.images)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("set.json", {"classes": ["0"]}, "label"),
        ("set.json", {"classes": [0] * 10}, "no text"),
        ("set.json", {"card": {"mean": ["x"]}}, "mean and standard deviation"),
        ("set.json", {"card": {"shape": [17, 8, 8]}}, "shape"),
        ("set.json", {"card": {"shape": [1, 2**20, 2**20]}}, "shape"),
        ("set.json", {"card": {"count": 10**12}}, "images.npy"),
        ("set.json", {"card": {"corrupt": [3]}}, "in the place of text"),
        ("set.json", {"card": {"sizes": {"a": "b"}}}, "counts that are none"),
        ("set.json", {"card": {"fingerprint": "0"}}, "not those that were prepared"),
        ("rows.jsonl", {"label": 10}, "line 1 of rows.jsonl has the label 10"),
        ("rows.jsonl", {"label": True}, "the label True"),
        ("rows.jsonl", {"text": 3}, "key or text"),
        ("rows.jsonl", {"key": None}, "key or text"),
    ],
)
def test_maps_that_do_not_agree(name: str, change: dict[str, object], words: str, tmp_path: Path) -> None:
    prepare("digits?limit=4", tmp_path / "out")
    path = tmp_path / "out" / name
    first, *rest = [path.read_text()] if name == "set.json" else path.read_text().splitlines(keepends=True)
    values = json.loads(first)
    for key, value in change.items():
        values[key] = values[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(values) + "\n" + "".join(rest))
    with pytest.raises(DataError, match=f"damaged.*{words}"):
        open_source(f"map:{tmp_path / 'out'}")


@pytest.mark.parametrize("name", ["set.json", "rows.jsonl", "images.npy"])
def test_maps_of_pipes_and_holes(name: str, tmp_path: Path) -> None:
    prepare("digits?limit=4", tmp_path / "out")
    path = tmp_path / "out" / name
    path.unlink()
    with path.open("wb") as file:
        file.truncate(8 << 30)
    with pytest.raises(DataError, match="damaged"):
        open_source(f"map:{tmp_path / 'out'}")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=rf"damaged: {name}: a pipe"):
        open_source(f"map:{tmp_path / 'out'}")
