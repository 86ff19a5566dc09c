"""Tar shards: names that are commands, cut and sparse tars, links, members outside, huge counts and labels."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile import materials as m
from tests.hostile.case import ACCEPT, CANARY, EITHER, REFUSE, Case, short
from tests.hostile.images import POSTSCRIPT

INSPECT = ["inspect", "wds:good.tar"]
VERBS = (INSPECT, ["prepare", "wds:good.tar", "out"], ["train", "ddpm/digits", "--data", "wds:good.tar", *m.TINY,
                                                       "--out", "out"])


def _case(name: str, content: Callable[[], bytes], i: int = 0, expect: str = REFUSE, heavy: bool = False) -> Case:
    def build(folder: Path) -> list[str]:
        (folder / "good.tar").write_bytes(content())
        return VERBS[i % len(VERBS)]

    return Case("shards", name, build, expect, heavy=heavy)


def _names() -> Iterator[Case]:
    """Specs that a shell, a browser or a brace could read."""
    pipe = f"pipe:touch {CANARY}; cat good.tar"
    specs = [pipe, f"./{pipe}", f"file:{pipe}", f"file:./{pipe}", f"file://{pipe}", f"././{pipe}", f" {pipe}",
             f"{{pipe,x}}:touch {CANARY}",
             f"good.tar::{pipe}", f"{{good.tar,{pipe}}}", f"gs://x/$(touch {CANARY})", "http://127.0.0.1:9/x.tar",
             "s3://x", "hdfs:x", "ssh:x", "store://x",
             f"good.tar;touch {CANARY}", f"$(touch {CANARY})", f"`touch {CANARY}`", "-", "/dev/stdin", "/dev/zero",
             "/dev/tty", "/proc/self/mem",
             "{0..99999999}.tar", "{a,b}" * 22 + ".tar", "{" * 5000, "}" * 5000, "{0..9999999999999999999999}",
             "{000..-1}.tar", "{1..a}.tar", "{a..z}{a..z}{a..z}{a..z}{a..z}",
             "{good,good}.tar", "", "::", "x" * 5000, "good.tar?limit=x", "good.tar?limit=99999999999999999999",
             "fifo", "loop", "folder", "\x1b[31m.tar",
             "{0..9..0}.tar", "{good.tar", "nowhere/good.tar", "*.tar", "[g]ood.tar", "_OPEN_:x", "file:", "file:///",
             f"PIPE:touch {CANARY}"]
    for spec in specs:
        for verb in ("inspect", "train") if CANARY in spec else ("inspect",):
            def build(folder: Path, spec: str = spec, verb: str = verb) -> list[str]:
                m.copied("shard.tar", folder / "good.tar")
                for name in (pipe, f"pipe:touch {CANARY}"):
                    m.copied("shard.tar", folder / name)
                os.mkfifo(folder / "fifo")
                (folder / "loop").symlink_to("loop")
                (folder / "folder").mkdir()
                if verb == "train":
                    return ["train", "ddpm/digits", "--data", f"wds:{spec}", *m.TINY, "--out", "out"]
                return ["inspect", f"wds:{spec}"]

            yield Case("shards", f"named {short(spec)}, {verb}", build, EITHER)


def _typed(kind: bytes, name: str, link: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


def _with(*more: tarfile.TarInfo | tuple[str, bytes], first: bool = False) -> bytes:
    """A valid shard with further members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        given: list[tarfile.TarInfo | tuple[str, bytes]] = list(more)
        for member in given + m.samples() if first else m.samples() + given:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
            else:
                made = tarfile.TarInfo(member[0])
                made.size = len(member[1])
                file.addfile(made, io.BytesIO(member[1]))
    return buffer.getvalue()


def _members() -> Iterator[Case]:
    kinds = {"symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE, "FIFO": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE,
             "block": tarfile.BLKTYPE,
             "folder": tarfile.DIRTYPE, "other": b"Z"}
    for i, (name, kind) in enumerate(kinds.items()):
        for link in ("/etc/passwd", "../../x", "000.png", "500.png"):
            yield _case(f"a {name} to {link}", lambda kind=kind, link=link: _with(_typed(kind, "500.png", link)), i,
                        EITHER)
    for i, name in enumerate(("/tmp/outside.png", "../outside.png", "a/../../outside.png", "x" * 5000 + ".png", ".png",
                              "", ".", "a\nb.png", "\x1b[31m.png", "\udcff.png",
                              "000.png", "a.b.c.d.png", "C:\\x.png", "000.PNG", "__key__.png", "__bad__",
                              "000.__key__", "000.__url__", "000.json", "a" * 90 + "/" + "b" * 90 + ".png")):
        yield _case(f"a member named {short(name)}", lambda name=name: _with((name, m.png())), i, EITHER)
    for i, label in enumerate((b"", b"x", b"-1", b"1.5", b"999999999999", b"99999999999999999999999", b"9" * 5000,
                               b" 1 \n", b"\xff", b"0x1", b"nan", "٣".encode(), b"1_0", b"65535", b"65536",
                               b"x" * 10_000_000)):
        expect = EITHER if label in (b" 1 \n", b"1_0", "٣".encode(), b"65535", b"") else REFUSE
        yield _case(f"label {short(label)}", lambda label=label: m.tar([("000.png", m.png()), ("000.cls", label),
            ("001.png", m.png()), ("001.cls", b"0")]), i, expect)
    for i, text in enumerate((b"\xff\xfe", b"", b"x" * 5_000_000, b"\x1b[31m", b"\x00")):
        yield _case(f"text {short(text)}", lambda text=text: _with(("000.txt", text), first=True), i, EITHER)
    for i, picture in enumerate((b"", b"x", m.png()[:50], POSTSCRIPT)):
        yield _case(f"all pictures {short(picture[:20])}", lambda p=picture: m.tar([(f"{i}.png", p)
            for i in range(3)]), i)
        yield _case(f"one picture {short(picture[:20])}", lambda p=picture: _with(("500.png", p), ("500.cls", b"0")),
                    0, EITHER)
    yield _case("some without labels", lambda: _with(("500.png", m.png())), 0, EITHER)
    yield _case("no pictures", lambda: m.tar([("a.cls", b"1"), ("b.txt", b"x")]))
    yield _case("no members", lambda: m.tar([]))
    yield _case("plain", lambda: m.tar(m.samples()), 0, ACCEPT)
    yield _case("50,000 members", lambda: m.tar([(f"{i}.cls", b"0") for i in range(50_000)]), heavy=True)


def sparse(name: str, size: int) -> bytes:
    """A member of the old sparse kind, that says it is so large and holds nothing."""
    member = tarfile.TarInfo(name)
    member.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[386:482] = (b"%011o\0" % 0 + b"%011o\0" % 0) + bytes(72)
    head[482:483] = b"\0"
    head[483:495] = size.to_bytes(12, "big") if size >= 8**11 else b"%011o\0" % size
    if size >= 8**11:
        head[483] |= 0x80
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def _forms() -> Iterator[Case]:
    whole = m.tar(m.samples())
    chance = random.Random(5)
    for i in range(16):
        share = chance.random() * 0.5
        yield _case(f"cut at {share:.3f}", lambda share=share: whole[: int(share * len(whole))], i, EITHER)
    for at in (1, 100, 511, 512, 513, 1024, 1500):
        yield _case(f"cut at {at} bytes", lambda at=at: whole[:at], expect=REFUSE)
    for at in (2048 + 256, 3072 + 100, 4096 + 300):
        yield _case(f"cut inside a header, {at}", lambda at=at: whole[:at], expect=REFUSE)
    for i in range(16):
        place, bit = chance.random() * 0.4, chance.randrange(8)
        def flip(place: float = place, bit: int = bit) -> bytes:
            content = bytearray(whole)
            content[int(place * len(content))] ^= 1 << bit
            return bytes(content)
        yield _case(f"bit {bit} at {place:.3f}", flip, i, EITHER)
    for name, content in {"empty": b"", "text": b"hello" * 500, "zeros": bytes(100_000), "HTML": b"<html>",
                          "a zip": b"PK\x03\x04" + bytes(600), "gzip": gzip.compress(whole),
                          "half a gzip": gzip.compress(whole)[:300], "gzip of nothing": gzip.compress(b"")}.items():
        yield _case(f"is {name}", lambda content=content: content, 0, EITHER if name == "gzip" else REFUSE)
    for i, size in enumerate((1 << 20, 8 << 30, 1 << 50, 2**63)):
        yield _case(f"a sparse picture of {size}", lambda size=size: sparse("500.png", size) + m.tar(m.samples()), i,
                    EITHER)
        yield _case(f"a sparse label of {size}", lambda size=size: sparse("000.cls", size) + m.tar(m.samples()), i,
                    EITHER)
    for i, size in enumerate((8 << 30, 1 << 50, 8**11 - 1)):
        def lying(size: int = size) -> bytes:
            member = tarfile.TarInfo("000.png")
            member.size = size
            return member.tobuf(tarfile.GNU_FORMAT) + m.png()
        yield _case(f"a member that says {size}", lying, i)
    for i, head in enumerate(({"size": "-5"}, {"size": "x"}, {"path": "../x.png"},
                              {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "8589934592",
                               "GNU.sparse.name": "x.png"},
                              {"GNU.sparse.map": "0,1," * 1000}, {"comment": "x" * 1_000_000}, {"mtime": "nan"})):
        def extended(head: dict[str, str] = head) -> bytes:
            member = tarfile.TarInfo("500.png")
            member.pax_headers = head
            member.size = len(m.png())
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
                file.addfile(member, io.BytesIO(m.png()))
            return buffer.getvalue()
        yield _case(f"extended {short(head)}", extended, i, EITHER)
    def bomb() -> bytes:
        buffer = io.BytesIO()
        with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
            for _ in range(600):
                file.write(bytes(1 << 20))
        return buffer.getvalue()
    yield _case("gzip of 600 MB of zeros", bomb, heavy=True)

    def holes(where: str) -> Callable[[Path], list[str]]:
        def build(folder: Path) -> list[str]:
            m.copied("shard.tar", folder / "good.tar")
            os.truncate(folder / where, 8 << 30) if (folder / where).exists() else os.truncate(os.open(folder / where,
                os.O_CREAT | os.O_RDWR), 8 << 30)
            return ["inspect", f"wds:{where}"]
        return build
    yield Case("shards", "a tar of 8 GB, with holes", holes("good.tar"), EITHER)
    yield Case("shards", "8 GB of holes", holes("other.tar"), REFUSE)


def _indexes() -> Iterator[Case]:
    """shards.json, which lies."""
    values = ["", "{", "[]", "null", "1", "{}", '{"shards": 1}', '{"shards": []}', '{"shards": {"good.tar": 1}}',
              '{"shards": {"good.tar": []}}', '{"shards": {"good.tar": [4]}}',
              '{"shards": {"good.tar": [-1, 0]}}', '{"shards": {"good.tar": [4, 1000000000000]}}',
              '{"shards": {"good.tar": [1000000000000, 2]}}', '{"shards": {"good.tar": ["x", 2]}}',
              '{"shards": {"good.tar": [4, -1]}}', '{"shards": {"good.tar": [4.5, 2]}}',
              '{"shards": {"good.tar": [NaN, 2]}}', '{"shards": {"good.tar": [3, 2]}}',
              '{"shards": {"good.tar": [5, 2]}}',
              '{"shards": {"good.tar": [4, 1]}}', '{"classes": 5}', '{"classes": [1, 2]}', '{"classes": ["a"]}',
              '{"classes": ["\\u001b[31m", "b", "c"]}', '{"licence": 5}', '{"licence": "\\u001b[31m"}',
              '{"classes": {"a": 1}}', '{"classes": "abc"}', '{"shards": {"good.tar": [0, 0]}}', '{"a":' * 50_000,
              "9" * 6000, '{"shards": {"good.tar": [true, 2]}}', '{"shards": {"good.tar": [4, null]}}',
              json.dumps({"classes": [str(i) for i in range(100_000)]})]
    for i, text in enumerate(values):
        def build(folder: Path, text: str = text, i: int = i) -> list[str]:
            m.copied("shard.tar", folder / "good.tar")
            (folder / "shards.json").write_text(text)
            return VERBS[i % 2]
        yield Case("shards", f"index {short(text)}", build, EITHER)
    for name, make in {"a FIFO": os.mkfifo, "a folder": os.mkdir, "a loop": lambda p: os.symlink("shards.json", p),
                       "8 GB": lambda p: os.truncate(os.open(p, os.O_CREAT | os.O_RDWR), 8 << 30)}.items():
        def built(folder: Path, make: Callable[[Path], object] = make) -> list[str]:
            m.copied("shard.tar", folder / "good.tar")
            make(folder / "shards.json")
            return INSPECT
        yield Case("shards", f"index is {name}", built, EITHER)


def cases() -> Iterator[Case]:
    yield from _names()
    yield from _members()
    yield from _forms()
    yield from _indexes()
