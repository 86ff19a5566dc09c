"""Official PyTorch files: pickles with code, bombs, tensors that lie about their memory, wrong and nested weights."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.hostile import materials as m
from tests.hostile.case import ACCEPT, CANARY, EITHER, REFUSE, Case, short
from tests.hostile.parted import Evil
from tests.hostile.words import finite

FILE = "model.pt"
CONVERT = ["convert", FILE, *m.CHOICES, "--out", "out.safetensors"]
BARE = ["convert", FILE]
VERBS = (CONVERT, BARE, ["sample", FILE, "-n", "2", "--steps", "2", "--out", "out"])


def _case(name: str, made: Callable[[], Any], words: list[str] = CONVERT, expect: str = REFUSE, heavy: bool = False,
          check: Any = finite, **options: Any) -> Case:
    """A file of what `made` returns: bytes as they are, anything else as torch saves it."""
    def build(folder: Path) -> list[str]:
        value = made()
        if isinstance(value, bytes):
            (folder / FILE).write_bytes(value)
        elif value is not None:
            torch.save(value, folder / FILE, **options)
        return words

    return Case("official files", name, build, expect, check, heavy=heavy)


def state() -> dict[str, Any]:
    return dict(m.official_state())


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def repacked(content: bytes, change: Callable[[str, bytes], bytes | None], method: int = zipfile.ZIP_STORED) -> bytes:
    """The zip with other contents of its members; None leaves one out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for name in old.namelist():
            made = change(name, old.read(name))
            if made is not None:
                new.writestr(name, made)
    return buffer.getvalue()


def _pickled(change: Callable[[bytes], bytes]) -> bytes:
    return repacked(saved(state()), lambda name, held: change(held) if name.endswith("data.pkl") else held)


# ---------------------------------------------------------------- code


def _code() -> Iterator[Case]:
    evils = (Evil(), Evil(eval, f"__import__('os').system('touch {CANARY}')"), Evil(exec, f"open('{CANARY}', 'w')"),
             Evil(open, CANARY, "w"), Evil(os.mkdir, CANARY), Evil(torch.load, "other.pt"),
             Evil(zipfile.ZipFile, CANARY, "w"),
             Evil(getattr, "x", "__class__"), Evil(__import__, "antigravity"), Evil(torch.hub.load, "x", "y"))
    for i, evil in enumerate(evils):
        for words in VERBS[:2]:
            yield _case(f"code {i}, {len(words)} words", lambda evil=evil: evil, words)
        yield _case(f"code {i} beside weights", lambda evil=evil: state() | {"x": evil})
        yield _case(f"code {i} in an old file", lambda evil=evil: {"model": state(), "x": evil},
                    _use_new_zipfile_serialization=False)
    for protocol in range(6):
        yield _case(f"a bare pickle of protocol {protocol}", lambda protocol=protocol: pickle.dumps(Evil(), protocol))
    yield _case("code behind the weights", lambda: saved(state()) + pickle.dumps(Evil()), expect=EITHER)
    yield _case("a module", lambda: torch.nn.Linear(2, 2))
    yield _case("a script behind the weights", lambda: repacked(saved(state()), lambda n, h: h) + b"import os",
                expect=EITHER)
    yield _case("a persistent id", lambda: _pickled(lambda h: b"\x80\x02cos\nsystem\nQ."))


# ---------------------------------------------------------------- bombs


def deflated(size: int, raw: bool = True) -> tuple[bytes, int]:
    """A deflate stream of so many zeros (a multiple of 1 MiB), and the sum of them, quickly."""
    block = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    last = packer.compress(b"") + packer.flush()
    total = 0
    for _ in range(size >> 20):
        total = zlib.crc32(block, total)
    return first * (size >> 20) + last, total


def zipped(name: str, content: bytes, size: int, total: int, method: int = 8) -> bytes:
    """A zip of one member that was deflated already."""
    about = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 0, total, len(content), size, len(name), 0)
    head = b"PK\x03\x04" + about + name.encode() + content
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + about + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    return head + entry + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(head), 0)


def _deflated_pickle(size: int) -> bytes:
    """A file of torch with a pickle of so many zeros."""
    content, total = deflated(size)
    return zipped("archive/data.pkl", content, size, total)


def strided(shape: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    return torch.as_strided(torch.zeros(1), shape, stride)


def _bombs() -> Iterator[Case]:
    for size in (1 << 28, 4000 << 20):
        yield _case(f"a deflated pickle of {size >> 20} MiB", lambda size=size: _deflated_pickle(size), heavy=True)
    yield _case("deflated weights", lambda: repacked(saved(state()), lambda n, h: h, zipfile.ZIP_DEFLATED),
                expect=EITHER)
    for shape in ((1 << 34,), (1 << 17, 1 << 17), (10**6, 10**6), (2, 3, 10**8)):
        for key in ("conv_in.weight", "further"):
            yield _case(f"stride 0, {shape} as {key}", lambda shape=shape, key=key: state() |
                        {key: strided(shape, (0,) * len(shape))})
    yield _case("stride 0 everywhere", lambda: {k: strided(tuple(v.shape), (0,) * v.ndim) for k, v in state().items()},
                expect=EITHER)
    yield _case("stride 0 in bare weights", lambda: {k: strided((1 << 12, 1 << 12, 3, 3), (0, 0, 0, 0))
                                                     if v.ndim == 4 else v for k, v in state().items()})
    for text in (b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".", b"\x80\x02" + b"(" * 300_000,
                 b"\x80\x04\x8b\xff\xff\xff\x7f11.",
                 b"\x80\x02]r\xff\xff\xff\x7f.", b"\x80\x04\x96" + struct.pack("<Q", 2**40) + b"x.",
                 b"\x80\x02X\xff\xff\xff\xff.",
                 b"\x80\x02" + b"}" + b"q\x00" + b"h\x00" * 100_000 + b".", b"\x80\x02]q\x00h\x00a.", b"\x80\x02.",
                 b"."):
        yield _case(f"a pickle {short(text[:12])} of {len(text)}", lambda text=text: _pickled(lambda h: text))
    def laughs() -> Any:
        found: Any = ["ha"] * 10
        for _ in range(12):
            found = [found] * 10
        return {"model": state(), "x": found}
    yield _case("lists of lists", laughs, expect=EITHER)
    def itself() -> Any:
        found: Any = {"model": state()}
        found["x"] = found
        return found
    yield _case("holds itself", itself, expect=EITHER)
    def deep(levels: int) -> Any:
        found: Any = state()
        for _ in range(levels):
            found = {"model": found}
        return found
    yield _case("deep in model", lambda: deep(300))
    yield _case("a million names", lambda: {f"w{i}": 0 for i in range(1_000_000)}, heavy=True)
    yield _case("100,000 tensors", lambda: {f"w{i}": torch.zeros(0) for i in range(20_000)}, heavy=True)


# ---------------------------------------------------------------- damage and lies


def _damaged() -> Iterator[Case]:
    chance = random.Random(2)
    for i in range(20):
        share = chance.random() ** 2
        yield _case(f"cut at {share:.4f}", lambda share=share: saved(state())[: int(share * len(saved(state())))],
                    VERBS[i % 2])
    for i in range(24):
        place, bit = chance.random(), chance.randrange(8)
        def flip(place: float = place, bit: int = bit) -> bytes:
            content = bytearray(saved(state()))
            content[int(place * len(content))] ^= 1 << bit
            return bytes(content)
        yield _case(f"bit {bit} at {place:.4f}", flip, VERBS[i % 2], EITHER)
    for part in ("data.pkl", "version", "byteorder", "data/0", "data/5"):
        yield _case(f"without {part}", lambda part=part: repacked(saved(state()), lambda n, h: None
            if n.endswith("/" + part) else h), expect=EITHER)
        yield _case(f"{part} empty", lambda part=part: repacked(saved(state()), lambda n, h: b""
            if n.endswith("/" + part) else h), expect=EITHER)
        yield _case(f"{part} half", lambda part=part: repacked(saved(state()), lambda n, h: h[: len(h) // 2]
            if n.endswith("/" + part) else h), expect=EITHER)
    for name in ("../outside", "/tmp/outside", "a" * 60_000, "\x1b[31m", " "):
        yield _case(f"a zip of {short(name)}", lambda name=name: _zip_of(name))
    for name, content in {"empty": b"", "HTML": b"<html>404</html>", "PK alone": b"PK", "an empty zip": b"PK\x05\x06" +
                          bytes(18),
                          "a pointer": b"version https://git-lfs",
                          "a tar": m.tar([("pickle", b"x"), ("tensors", b"x"), ("storages", b"x")]),
                          "numpy": b"\x93NUMPY", "zeros": bytes(10_000), "a mark": b"\x80",
                          "a half mark": b"\x80\x02}"}.items():
        for words in VERBS:
            yield _case(f"is {name}, {words[0]} {len(words)}", lambda content=content: content, words)


def _zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, b"x")
    return buffer.getvalue()


def _values() -> Iterator[Case]:
    def each(change: Callable[[torch.Tensor], Any]) -> Callable[[], Any]:
        return lambda: {k: change(v) for k, v in state().items()}

    def first(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda v: v.reshape(-1).index_fill(0, torch.tensor([0]), value).reshape(v.shape)

    for value in (float("nan"), float("inf")):
        yield _case(f"{value} in each", each(first(value)))
    for kind in (torch.int64, torch.complex64, torch.bool):
        yield _case(f"as {kind}", each(lambda v, kind=kind: v.to(kind)))
    yield _case("as halves", each(lambda v: v.half()), expect=EITHER)
    yield _case("sparse", each(lambda v: v.to_sparse()), expect=EITHER)
    yield _case("without dimensions", each(lambda v: torch.tensor(1.0)))
    yield _case("without elements", each(lambda v: torch.zeros(0)))
    yield _case("flat", each(lambda v: v.reshape(-1)))
    yield _case("quantised", each(lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8)))
    yield _case("meta", each(lambda v: v.to("meta")))
    yield _case("numbers", each(lambda v: 1.0))
    for key in ("conv_in.weight", "temb.dense.0.weight", "mid.block_1.conv1.weight", "conv_out.weight",
                "norm_out.bias"):
        yield _case(f"without {key}", lambda key=key: {k: v for k, v in state().items() if k != key})
        yield _case(f"{key} of another shape", lambda key=key: state() | {key: torch.zeros(5, 3, 1, 1)})
        yield _case(f"{key} twice as wide", lambda key=key: state() | {key: torch.cat([state()[key]] * 2)})
        yield _case(f"{key} with no channels", lambda key=key: state() | {key: torch.zeros(0, 0, 0, 0)})
    yield _case("weights and a number", lambda: [state(), 1], expect=EITHER)
    yield _case("a list of a list of weights", lambda: [[state()]], expect=EITHER)
    yield _case("an average alone", lambda: {"ema": state()}, expect=EITHER)
    yield _case("a name that is long", lambda: {"x" * 100_000: torch.zeros(1)})
    for value in (None, 1, "x", [], {}, [1, 2], {"a": 1}, {1: torch.zeros(2)}, {None: torch.zeros(2)}, torch.zeros(3),
                  {"state_dict": {}},
                  {"model": None}, {"param_groups": []}, {"\x1b[31m": torch.zeros(2)}):
        yield _case(f"holds {short(value)}", lambda value=value: value)


def _wrapped() -> Iterator[Case]:
    """Wrappers around whole weights: accepted only where what is said of them is so."""
    def claims(work: Path, said: str) -> str | None:
        return "it claims an average" if "average" in said or "EMA" in said else None

    def doubled() -> dict[str, torch.Tensor]:
        return {k: 2 * v for k, v in state().items()}

    for name, made in {
        "state_dict": lambda: {"state_dict": state()}, "model": lambda: {"model": state()},
        "module": lambda: {f"module.{k}": v for k, v in state().items()},
        "compiled": lambda: {f"_orig_mod.{k}": v for k, v in state().items()}, "ordered": lambda: OrderedDict(state()),
        "a list": lambda: [state(), {"param_groups": [], "state": {}}],
    }.items():
        yield _case(f"in {name}", made, expect=EITHER, check=claims)
    yield _case("plain", state, expect=ACCEPT, check=claims)

    def averaged(work: Path, said: str) -> str | None:
        from safetensors.torch import load_file

        held = load_file(work / "out.safetensors")
        mean = next(value for name, value in held.items() if name.endswith("conv_in.weight"))
        online = bool(torch.allclose(mean, state()["conv_in.weight"]))
        return "the online weights are called an average" if online and ("average" in said or "EMA" in said) else None

    for name, made in {
        "ema": lambda: {"model": state(), "ema": doubled()}, "ema.model": lambda: {"ema": {"decay": 0.9,
            "model": doubled()}, "model": state()},
        "model_ema": lambda: {"model": state(), "model_ema": doubled()},
        "shadow": lambda: {"model": state(), "ema": {"shadow_params": list(doubled().values())}},
        "shadow of another number": lambda: {"model": state(), "ema": {"shadow_params": [torch.zeros(2)]}},
        "ema_state_dict": lambda: {"state_dict": state(), "ema_state_dict": doubled()},
        "an empty ema": lambda: {"model": state(), "ema": {}},
        "five": lambda: [state(), {}, 1, 2, doubled()],
    }.items():
        yield _case(f"average in {name}", made, expect=EITHER, check=averaged)


def cases() -> Iterator[Case]:
    yield from _code()
    yield from _bombs()
    yield from _damaged()
    yield from _values()
    yield from _wrapped()
