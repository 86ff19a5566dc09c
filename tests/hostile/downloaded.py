"""Sets as downloaded (MATLAB files, pickles, zips, tars of tars, LMDBs) and tables of labels: damaged, or lying."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tests.hostile.case import CANARY, EITHER, REFUSE, Case

KIND = "downloaded sets"


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 8), (1, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def _tar(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE, sizes: dict[str, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
    found = bytearray(buffer.getvalue())
    for name, size in (sizes or {}).items():  # a header that claims another size
        at = found.index(name.encode())
        found[at + 124 : at + 136] = b"%011o\0" % size
        head = bytes(found[at : at + 148]) + b" " * 8 + bytes(found[at + 156 : at + 512])
        found[at + 148 : at + 156] = b"%06o\0 " % sum(head)
    return bytes(found)


def _case(name: str, spec: str, files: dict[str, bytes], number: int, expect: str = REFUSE) -> Case:
    def build(folder: Path) -> list[str]:
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        os.environ["SFUMATO_DATA"] = str(folder)
        return [["inspect", spec], ["prepare", spec, "out"]][number % 2]

    return Case(KIND, name, build, expect)


def _imagenet() -> Iterator[tuple[str, bytes]]:
    inner = _tar({"n1_1.JPEG": _picture(), "n1_2.JPEG": _picture()})
    yield "cut", _tar({"n1.tar": inner})[:2000]
    yield "cut inside", _tar({"n1.tar": inner[:1500]})
    yield "an inner size of 8 GB", _tar({"n1.tar": _tar({"n1_1.JPEG": _picture()}, sizes={"n1_1.JPEG": 8**11 - 1})})
    yield "an outer size of 8 GB", _tar({"n1.tar": inner}, sizes={"n1.tar": 8**11 - 1})
    yield "links inside", _tar({"n1.tar": _tar({"n1_1.JPEG": b""}, tarfile.SYMTYPE)})
    yield "links outside", _tar({"n1.tar": b""}, tarfile.LNKTYPE)
    yield "no pictures", _tar({"n1.tar": _tar({"n1_1.JPEG": b"", "n1_2.JPEG": b"x" * 99})})
    yield "a tar in a tar in a tar", _tar({"n1.tar": _tar({"n2.tar": inner})})
    yield "a name with escapes", _tar({"\x1b[31m.tar": inner})
    yield "40,000 classes", _tar({f"{i}.tar": b"" for i in range(40_000)})
    yield "noise", bytes(range(256)) * 40
    yield "zeros", bytes(2**20)


class _Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, (CANARY,)


def _celeba() -> Iterator[tuple[str, dict[str, bytes]]]:
    def packed(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    good, bomb = packed({"img_align_celeba/1.jpg": _picture()}), bytearray(packed({"1.jpg": bytes(2**26)}))
    yield "a bomb", {"z": bytes(bomb), "l": b"1.jpg 0\n"}
    at = bomb.index(b"PK\1\2")
    bomb[at + 24 : at + 28] = struct.pack("<I", 100)
    yield "a bomb that says it is small", {"z": bytes(bomb), "l": b"1.jpg 0\n"}
    yield "no list", {"z": good}
    yield "a list of noise", {"z": good, "l": bytes(range(256))}
    yield "a list of others", {"z": good, "l": b"2.jpg 0\n" * 9}
    yield "a list with escapes", {"z": good, "l": b"\x1b[31m.jpg 0\n"}
    yield "a path in the list", {"z": good, "l": b"../../../etc/passwd 0\n"}
    yield "a cut zip", {"z": good[:-30], "l": b"1.jpg 0\n"}
    yield "an encrypted picture", {"z": good.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"),
                                   "l": b"1.jpg 0\n"}
    yield "another compression", {"z": good.replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x63\0"), "l": b"1.jpg 0\n"}
    yield "a list of 40 MB", {"z": good, "l": b"1.jpg 0\n" * 5_000_000}


def _mat() -> Iterator[tuple[str, bytes]]:
    """Version 5 by hand: a header of 128 bytes, then elements of type, length and content."""
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    def matrix(name: bytes, shape: tuple[int, ...], mx: int, mi: int, content: bytes) -> bytes:
        return element(14, element(6, struct.pack("<II", mx, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape)) +
                       element(1, name) + element(mi, content))

    y = matrix(b"y", (2, 1), 9, 2, b"\1\2")
    shapes = {"a huge X": (32, 32, 3, 2**31 - 1), "a negative X": (32, 32, 3, -2), "an X of nothing": (32, 32, 3, 0),
              "an X of two axes": (2, 2), "an X shorter than its shape": (32, 32, 3, 2)}
    for name, shape in shapes.items():
        yield name, head + matrix(b"X", shape, 9, 2, bytes(100)) + y
    x = matrix(b"X", (32, 32, 3, 2), 9, 2, bytes(6144))
    yield "labels of 0", head + x + matrix(b"y", (2, 1), 9, 2, b"\0\0")
    yield "no labels", head + x
    yield "labels that are objects", head + x + matrix(b"y", (2, 1), 17, 2, b"\1\2")
    yield "a length of 4 GB", head + struct.pack("<II", 14, 2**32 - 1) + x[8:] + y
    yield "of version 7.3", head[:124] + struct.pack("<H", 0x0200) + b"IM" + b"\x89HDF\r\n\x1a\n" + bytes(600)
    yield "compressed noise", head + element(15, bytes(range(256)))
    yield "empty", b""


def cases() -> Iterator[Case]:
    for i, (name, content) in enumerate(_imagenet()):
        yield _case(f"imagenet: {name}", "imagenet?size=8", {"imagenet/ILSVRC2012_img_train.tar": content}, i, EITHER
                    if "escapes" in name else REFUSE)
    for i, (name, parts) in enumerate(_celeba()):
        names = {"z": "celeba/img_align_celeba.zip", "l": "celeba/list_eval_partition.txt"}
        yield _case(f"celeba: {name}", "celeba?size=8", {names[k]: content for k, content in parts.items()}, i)
    for i, (name, content) in enumerate(_mat()):
        yield _case(f"svhn: {name}", "svhn", {"svhn/train_32x32.mat": content}, i)
    for i, name in enumerate(("cifar10", "cifar100")):
        files = {"cifar10": "cifar-10-batches-py/data_batch_{}", "cifar100": "cifar-100-python/{}"}[name]
        parts = list(range(1, 6)) if name == "cifar10" else ["train", "test", "meta"]
        pickled = {files.format(part): pickle.dumps({b"data": _Runs(), b"labels": [0]}) for part in parts}
        if name == "cifar10":
            pickled["cifar-10-batches-py/test_batch"] = b""
        yield _case(f"{name}: a pickle that runs", name, pickled, i)
    for i, (name, content) in enumerate({"an empty file": b"", "zeros": bytes(8192), "noise": bytes(range(256)) * 64}
                                        .items()):
        yield _case(f"lsun: {name}", "lsun:cat", {"cat_train_lmdb/data.mdb": content}, i)
    pictures = {"set/a.png": _picture(), "set/b.png": _picture()}
    for i, (name, content) in enumerate({
        "an empty table": b"", "noise": bytes(range(256)), "one row": b"a.png,x\n", "a path": b"../../etc/passwd,x\n",
        "escapes": b"\x1b[31m.png,x\n", "a quote that does not end": b'a.png,"x\nb.png,x\n',
        "a field of 300,000 letters": b"a.png," + b"x" * 300_000, "nulls": b"a.png\0,x\0\n", "40 columns": b"a.png" +
        b",x" * 40, "4 MB of commas": b"," * (4 << 20),
    }.items()):
        yield _case(f"labels: {name}", "folder:set?labels=l.csv", pictures | {"set/l.csv": content}, i)
    for i, (name, content) in enumerate({
        "a list": b"[1]\n", "a number": b"1\n", "deep": b"[" * 100_000, "a label that is a list":
        b'{"file_name": "a.png", "label": [1]}', "an infinite label": b'{"file_name": "a.png", "label": Infinity}',
    }.items()):
        yield _case(f"labels: {name} in JSON", "folder:set?labels=l.jsonl", pictures | {"set/l.jsonl": content}, i)
