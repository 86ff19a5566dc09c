"""npz and npy files: pickled objects, huge arrays that nobody asked for, lying shapes, wrong types, labels of 10^12."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import materials as m
from tests.hostile.case import ACCEPT, EITHER, REFUSE, Case, short
from tests.hostile.official import deflated, zipped
from tests.hostile.parted import Evil

FILE = "x.npz"
INSPECT = ["inspect", f"npz:{FILE}"]
VERBS = (INSPECT, ["prepare", f"npz:{FILE}", "out"], ["train", "ddpm/digits", "--data", f"npz:{FILE}", *m.TINY,
                                                      "--out", "out"],
         ["evaluate", FILE, "--reference", "digits:test", "--out", "out", "--net", "digits"])


def _case(name: str, content: Callable[[], bytes], i: int = 0, expect: str = REFUSE, heavy: bool = False,
          words: list[str] | None = None) -> Case:
    def build(folder: Path) -> list[str]:
        (folder / FILE).write_bytes(content())
        return words or VERBS[i % len(VERBS)]

    return Case("npz", name, build, expect, heavy=heavy)


def stored(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npy(descr: Any, shape: Any, data: bytes = b"", order: Any = False, version: bytes = b"\x01\x00") -> bytes:
    """An npy file, whatever its header says."""
    text = f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}, }}"
    return raw(text.encode(), data, version)


def raw(text: bytes, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = text.ljust((len(text) + 74) // 64 * 64 - 11) + b"\n"
    size = len(text).to_bytes(2 if version[:1] == b"\x01" else 4,
                              "little") if len(text) < 65536 or version[:1] != b"\x01" else b"\xff\xff"
    return b"\x93NUMPY" + version + size + text + data


def members(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def images(**more: Any) -> dict[str, Any]:
    return {"images": m.pixels(), **more}


def _contents() -> Iterator[Case]:
    yield _case("plain", lambda: stored(**images()), 0, ACCEPT)
    kinds = ("float32", "float64", "int64", "bool", "complex64", "uint16", "int8", "S1", "U1", "datetime64[s]",
             "float16", ">u2")
    for i, kind in enumerate(kinds):
        yield _case(f"images as {kind}", lambda kind=kind: stored(images=m.pixels().astype(kind)), i)
    shapes = [(), (0,), (12,), (12, 8), (0, 8, 8, 1), (12, 8, 8, 2), (12, 8, 8, 4), (12, 0, 0, 1), (12, 8, 0, 3),
              (12, 2, 8, 8), (1, 1, 1, 1, 1), (12, 1, 1, 1), (12, 8, 9, 1), (1, 8, 8), (3, 3, 3, 3),
              (12, 5000, 1, 1), (2, 1, 100_000, 1)]
    for i, shape in enumerate(shapes):
        bad = len(shape) not in (3, 4) or 0 in shape or shape[1:] in ((8, 8, 2), (8, 8, 4), (2, 8, 8))
        yield _case(f"images {shape}", lambda shape=shape: stored(images=np.zeros(shape, np.uint8)), 0 if not bad else
                    i, REFUSE if bad else EITHER)
    labels: list[Any] = [np.full(12, 10**12), np.full(12, -1), np.arange(11), np.zeros((12, 2), int), np.zeros(12),
                         np.full(12, np.nan), np.array(["a"] * 12), np.full(12, 2**64 - 1, np.uint64),
                         np.array(5), np.zeros(0, int), np.zeros(12, bool), np.zeros(12, "c8"), np.full(12, 2**63 - 1),
                         np.arange(12) * 10**6, np.arange(12) * 5000]
    for i, marks in enumerate(labels):
        whole = marks.dtype == int and marks.shape == (12,)
        fine = marks.dtype == bool or (whole and marks.min() >= 0 and marks.max() < 60_000)
        yield _case(f"labels {marks.dtype} {marks.shape} {short(marks.flat[-1] if marks.size else None)}",
                    lambda marks=marks: stored(**images(labels=marks)), i, EITHER if fine else REFUSE)
    for i, name in enumerate(("", "image", "IMAGES", "arr_1", "../images", "/images", "images\x1b[31m", "mu",
                              "a" * 60_000)):
        yield _case(f"only {short(name)}", lambda name=name: members(**{name: npy("|u1", (2, 8, 8, 1), bytes(128))}), i)
    yield _case("no arrays", lambda: members())
    yield _case("objects", lambda: stored_pickled(np.array([Evil()], dtype=object)))
    for i in range(len(VERBS)):
        yield _case(f"pickled code as images {i}", lambda: members(images=npy("|O", (1,), pickle.dumps([Evil()]))), i)
        yield _case(f"pickled code beside {i}", lambda: members(images=npy("|u1", (2, 8, 8, 1), bytes(128)),
            labels=npy("|O", (2,), pickle.dumps([Evil()]))), i)
    yield _case("pickled code nobody asked for", lambda: members(images=npy("|u1", (2, 8, 8, 1), bytes(128)),
        x=npy("|O", (2,), pickle.dumps([Evil()]))), 0, EITHER)
    yield _case("a bare pickle", lambda: pickle.dumps(Evil()))
    yield _case("a file of numpy", lambda: npy("|u1", (2, 8, 8, 1), bytes(128)), 0, EITHER)
    for name in ("mu", "sigma"):
        for value in (np.nan, 1e308, 0.0):
            held = {"mu": np.zeros(64), "sigma": np.eye(64)}
            held[name] = held[name] * 0 + value
            yield _case(f"statistics with {name} {value}", lambda held=held: stored(**held), 0, EITHER,
                        words=["evaluate", "digits:test", "--reference", FILE, "--net", "digits", "--out", "out", "-n",
                               "50"])
    for mu, sigma in (((0,), (0, 0)), ((3,), (4, 4)), ((64,), (64,)), ((64, 64), (64, 64)), ((2048,), (2048, 2048))):
        yield _case(f"statistics {mu} {sigma}", lambda mu=mu,
                    sigma=sigma: stored(mu=np.zeros(mu), sigma=np.zeros(sigma)), 0, REFUSE,
                    words=["evaluate", "digits:test", "--reference", FILE, "--net", "digits", "--out", "out", "-n",
                           "50"])


def stored_pickled(value: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=value, allow_pickle=True)
    return buffer.getvalue()


def _lies() -> Iterator[Case]:
    shapes: list[Any] = [(10**12, 8, 8, 1), (2**63, 8, 8, 1), (2**70,), (-1, 8, 8, 1), (2, 8, 8), (2, 8, 8, "1"), None,
                         "x", 5, (1.5, 8), ((2,), 8), [2, 8, 8, 1], (10**9, 10**9), (0, 10**18), (True, 8, 8, 1),
                         (1,) * 100, (10**5, 1000, 1000, 3)]
    for i, shape in enumerate(shapes):
        expect = EITHER if shape in ((2, 8, 8), (True, 8, 8, 1), [2, 8, 8, 1]) else REFUSE
        yield _case(f"shape {short(shape)}", lambda shape=shape: members(images=npy("|u1", shape, bytes(128))), i,
                    expect)
        yield _case(f"shape {short(shape)} alone", lambda shape=shape: npy("|u1", shape, bytes(128)), 0, expect)
    for i, kind in enumerate(("|V8", "|u1,|u1", "<f999", "x", "", None, 5, [("a", "|u1")], "|S1000000000",
                              "<U1000000000", "O", "__import__('os')")):
        yield _case(f"type {short(kind)}", lambda kind=kind: members(images=npy(kind, (2, 8, 8, 1), bytes(128))), i)
    for i, text in enumerate((b"", b"{", b"{}", b"[]", b"1", b"{'descr': '|u1'}",
                              b"__import__('os').system('touch HACKED')", b"(" * 2000, b"[" * 9000, b"9" * 5000,
                              b"{'a': 1}", b"\xff\xfe", b"x" * 70_000)):
        yield _case(f"header {short(text)}", lambda text=text: members(images=raw(text, bytes(128))), i)
    for version in (b"\x00\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00", b"\xff\xff"):
        yield _case(f"version {version!r}", lambda version=version: members(images=npy("|u1", (2, 8, 8, 1), bytes(128),
            version=version)), 0, EITHER)
    yield _case("a header of 2 GB", lambda: members(images=b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"x" * 1000))
    for order in (True, None, "x", 5):
        yield _case(f"order {order!r}", lambda order=order: members(images=npy("|u1", (2, 8, 8, 1), bytes(128),
            order=order)), 0, EITHER)
    for length in (0, 1, 127):
        yield _case(f"{length} of 128 bytes", lambda length=length: members(images=npy("|u1", (2, 8, 8, 1),
            bytes(length))))

    def member_bomb(name: str, shape: tuple[int, ...], size: int) -> bytes:
        head = npy("|u1", shape)
        content, _ = deflated(size)
        import zlib

        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        begun = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
        return zipped(f"{name}.npy", begun + content, len(head) + size, 0)

    for name in ("images", "other", "labels"):
        yield _case(f"{name} of 4 GB deflated", lambda name=name: member_bomb(name, (4000 << 20,), 4000 << 20),
                    heavy=True)
    yield _case("images of 4 GB deflated, in shape", lambda: member_bomb("images", (4000, 1024, 1024, 1), 4000 << 20),
                heavy=True)

    def beside() -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            file.writestr("images.npy", npy("|u1", (2, 8, 8, 1), bytes(128)))
            with file.open("other.npy", "w", force_zip64=True) as big:
                big.write(npy("|u1", (600 << 20,)))
                for _ in range(600):
                    big.write(bytes(1 << 20))
        return buffer.getvalue()
    yield _case("600 MB nobody asked for", beside, 0, EITHER, heavy=True)


def _damaged() -> Iterator[Case]:
    whole = stored(**images(labels=np.arange(12) % 3))
    chance = random.Random(6)
    for i in range(16):
        share = chance.random()
        yield _case(f"cut at {share:.3f}", lambda share=share: whole[: int(share * len(whole))], i)
    for i in range(24):
        place, bit = chance.random(), chance.randrange(8)
        yield _case(f"bit {bit} at {place:.3f}", lambda p=place, b=bit: whole[: int(p * len(whole))] +
                    bytes([whole[int(p * len(whole))] ^ (1 << b)]) + whole[int(p * len(whole)) + 1 :], i, EITHER)
    for name, content in {"empty": b"", "text": b"hello", "HTML": b"<html>", "an empty zip": b"PK\x05\x06" + bytes(18),
                          "numpy's mark": b"\x93NUMPY", "zeros": bytes(5000)}.items():
        for i in range(3):
            yield _case(f"is {name} {i}", lambda content=content: content, i)
    for name, flag in (("encrypted", 1), ("of method 99", 99)):
        def other(flag: int = flag) -> bytes:
            content = zipped("images.npy", b"x" * 100, 100, 0, 99 if flag == 99 else 8)
            return content if flag == 99 else content.replace(b"PK\x03\x04\x14\x00\x00\x00",
                b"PK\x03\x04\x14\x00\x01\x00").replace(b"PK\x01\x02\x14\x00\x14\x00\x00\x00",
                                                       b"PK\x01\x02\x14\x00\x14\x00\x01\x00")
        yield _case(f"a zip {name}", other)


def cases() -> Iterator[Case]:
    yield from _contents()
    yield from _lies()
    yield from _damaged()
