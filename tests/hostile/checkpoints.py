"""Our checkpoints, damaged byte by byte, and well-formed ones that lie about shapes, types, places and values."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.hostile import materials as m
from tests.hostile.case import EITHER, REFUSE, Case, short
from tests.hostile.recipes import save
from tests.hostile.words import finite

FILE = "model.safetensors"
SAMPLE = ["sample", FILE, "-n", "2", "--steps", "2", "--out", "out"]
VERBS = (SAMPLE, ["inspect", FILE, "--no-measure"], ["convert", FILE, "--out", "copy.safetensors"],
         ["likelihood", FILE, "--data", "digits:test", "--limit", "2", "--steps", "2", "--out", "out"],
         ["edit", "reconstruct", FILE, "--data", "digits:test", "-n", "2", "--steps", "2", "--out", "out"],
         ["sample", "adm/emoji32", "--guide-model", FILE, "-n", "1", "--steps", "1", "--out", "out"])


def whole() -> tuple[dict[str, Any], bytes]:
    """The header and the data of a valid checkpoint."""
    content = m.path("linear.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Any, data: bytes, length: int | None = None) -> bytes:
    """A safetensors file, whatever its header says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _bytes(name: str, damage: Callable[[bytes], bytes], words: list[str] = SAMPLE, expect: str = REFUSE) -> Case:
    def build(folder: Path) -> list[str]:
        (folder / FILE).write_bytes(damage(m.path("linear.safetensors").read_bytes()))
        return words

    return Case("checkpoints", name, build, expect, finite)


def _header(name: str, change: Callable[[dict[str, Any]], Any], expect: str = REFUSE) -> Case:
    def build(folder: Path) -> list[str]:
        header, data = whole()
        (folder / FILE).write_bytes(joined(change(header), data))
        return SAMPLE

    return Case("checkpoints", name, build, expect, finite)


def flipped(content: bytes, at: float, bit: int, within: tuple[int, int]) -> bytes:
    """The same with one bit turned, at a share of the way through a part of it."""
    start, end = within
    place = start + int(at * (end - start))
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def ends(content: bytes) -> int:
    """Where the header ends."""
    return 8 + int.from_bytes(content[:8], "little")


def _damaged() -> Iterator[Case]:
    chance = random.Random(0)
    for i in range(40):
        share, words = chance.random() ** 2, VERBS[i % len(VERBS)]
        yield _bytes(f"cut at {share:.4f}", lambda c, share=share: c[: int(share * len(c))], words)
    for n in (0, 1, 7, 8, 9, 16, 100):
        yield _bytes(f"cut at {n} bytes", lambda c, n=n: c[:n])
        yield _bytes(f"cut {n + 1} before the end", lambda c, n=n: c[: -n - 1])
    for i in range(60):
        at, bit, words = chance.random(), chance.randrange(8), VERBS[i % len(VERBS)]
        yield _bytes(f"bit {bit} at {at:.4f} of the tensors",
                     lambda c, at=at, bit=bit: flipped(c, at, bit, (ends(c), len(c))), words,
                     REFUSE if at < 0.49 else EITHER)  # the averages lie first, and the online weights are not read
    for i in range(60):
        at, bit, words = chance.random(), chance.randrange(8), VERBS[i % 2]
        yield _bytes(f"bit {bit} at {at:.4f} of the header",
                     lambda c, at=at, bit=bit: flipped(c, at, bit, (8, ends(c))), words, EITHER)
    for bit in range(0, 64, 5):
        yield _bytes(f"length bit {bit}", lambda c, bit=bit: flipped(c, 0, bit % 8, (bit // 8, 8)))
    for _ in range(10):
        a, b = sorted((chance.random(), chance.random()))
        yield _bytes(f"zeros from {a:.3f} to {b:.3f}",
                     lambda c, a=a, b=b: c[: int(a * len(c))] + bytes(int(b * len(c)) - int(a * len(c))) +
                     c[int(b * len(c)) :],
                     expect=REFUSE if a < 0.49 else EITHER)
    yield _bytes("more behind", lambda c: c + b"x" * 100, expect=EITHER)
    yield _bytes("twice", lambda c: c + c, expect=EITHER)
    for name, content in OTHERS.items():
        for words in VERBS[:3]:
            yield _bytes(f"is {name}, {words[0]}", lambda c, content=content: content, words)


OTHERS = {
    "empty": b"", "text": b"hello\n" * 100, "HTML": b"<!DOCTYPE html><html>404</html>",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "zeros": bytes(100_000), "ones": b"\xff" * 100_000, "a zip": b"PK\x05\x06" + bytes(18),
    "a pickle": b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch HACKED\x85R.",
    "an empty header": joined(b"{}", b""), "a list": joined(b"[]", b""), "a number": joined(b"1       ", b""),
    "deep": joined(b'{"a":' * 100_000, b""), "deep lists": joined(b'{"a":' + b"[" * 100_000, b""),
    "a wide header": joined(b'{"a":"' + b"x" * 5_000_000 + b'"}', b""), "bad UTF-8": joined(b'{"\xff\xfe": 1}', b""),
    "UTF-16": joined('{"a": 1}'.encode("utf-16"), b""), "NaN": joined(b'{"a": NaN}', b""),
    "a huge number": joined(b'{"a": {"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', bytes(4)),
}


def _lies() -> Iterator[Case]:
    def entry(change: Callable[[dict[str, Any]], Any], which: int = 0) -> Callable[[dict[str, Any]], Any]:
        def changed(header: dict[str, Any]) -> Any:
            name = [key for key in header if key != "__metadata__"][which]
            return {**header, name: change(dict(header[name]))}
        return changed

    shapes: list[Any] = [[], [-1], [0], [2**31], [2**63], [2**70], [1.5], ["x"], None, "abc", 3, [[1]], [10**9, 10**9],
                         [True], [1] * 100_000,
                         [float("nan")]]
    for shape in shapes:
        yield _header(f"shape {short(shape)}", entry(lambda e, shape=shape: {**e, "shape": shape}))
        yield _header(f"shape {short(shape)} of the last", entry(lambda e, shape=shape: {**e, "shape": shape}, -1))
    for kind in ("F64", "F16", "I64", "U8", "BOOL", "C64", "F8_E4M3", "X", "", None, 3, [], "float32", "\x1b[31m"):
        yield _header(f"dtype {short(kind)}", entry(lambda e, kind=kind: {**e, "dtype": kind}))
    spans: list[Any] = [[0, 0], [4, 0], [-4, 0], [0, 2**62], [0, 2**70], [2**40, 2**40 + 128], None, [], [0],
                        [0, 4, 8], ["0", "4"],
                        [0.0, 4.0], [float("nan"), 4], "ab", {"a": 1}]
    for span in spans:
        yield _header(f"offsets {short(span)}", entry(lambda e, span=span: {**e, "data_offsets": span}))
    for missing in ("dtype", "shape", "data_offsets"):
        yield _header(f"without {missing}", entry(lambda e, missing=missing: {k: v for k, v in e.items()
            if k != missing}))
    for value in (None, 1, "x", [], {}, True):
        yield _header(f"entry {short(value)}", entry(lambda e, value=value: value))
        yield _header(f"metadata {short(value)}", lambda h, value=value: {**h, "__metadata__": value})
        yield _header(f"about {short(value)}", lambda h, value=value: {**h, "__metadata__": {"sfumato": value}})
    yield _header("all at one place", lambda h: {k: v if k == "__metadata__" else
                                                 {**v, "data_offsets": [0, v["data_offsets"][1] - v["data_offsets"][0]]}
                                                for k, v in h.items()})
    yield _header("100,000 more tensors", lambda h: h | {f"model/{i}": {"dtype": "U8", "shape": [0],
        "data_offsets": [0, 0]} for i in range(100_000)})
    yield _header("names that act", lambda h: {k.replace("model/", "model/\x1b[31m"): v for k, v in h.items()})
    yield _header("names without an end", lambda h: {k.replace("model/", "model/" + "x" * 9000): v for k,
                                                     v in h.items()})
    yield _header("no names", lambda h: {"__metadata__": h["__metadata__"]})
    for text in ("", "{", "[]", "null", "{}", '{"format": 1}', '{"format": 99}', '{"format": "1"}', '{"format": NaN}',
                 '{"a":' * 50_000,
                 "\x1b[31m", '{"format": 1, "recipe": ' + "9" * 6000 + "}", '{"format":1,"recipe":null}'):
        yield _header(f"about says {short(text)}", lambda h, text=text: {**h, "__metadata__": {"sfumato": text}})


def _values() -> Iterator[Case]:
    """Tensors with whole sums that hold what no training leaves."""
    def case(name: str, change: Callable[[dict[str, torch.Tensor]], Any], expect: str = REFUSE,
             words: list[str] = SAMPLE) -> Case:
        def build(folder: Path) -> list[str]:
            tensors = m.tensors_of("linear")
            made = change(tensors)
            save(folder / FILE, m.about_of("linear"), tensors if made is None else made)
            return words
        return Case("checkpoints", name, build, expect, finite)

    def fill(value: float, which: int, all_of: bool = False) -> Callable[[dict[str, torch.Tensor]], None]:
        def change(tensors: dict[str, torch.Tensor]) -> None:
            for prefix in ("model/", "ema/"):
                name = [name for name in tensors if name.startswith(prefix)][which]
                tensors[name].reshape(-1)[slice(None) if all_of else -1] = value
        return change

    for value in (float("nan"), float("inf"), float("-inf")):
        for which in (0, 3, -1):
            for words in VERBS:
                yield case(f"{value} in {which}, {' '.join(words[:2])}", fill(value, which), words=words)
        yield case(f"only {value}", fill(value, 0, True))
    yield case("3e38 everywhere", fill(3e38, 0, True), EITHER)
    for kind in (torch.float64, torch.float16, torch.bfloat16):
        yield case(f"as {kind}", lambda t, kind=kind: {k: v.to(kind) for k, v in t.items()}, EITHER)
    for kind in (torch.int64, torch.uint8, torch.bool):
        yield case(f"as {kind}", lambda t, kind=kind: {k: v.to(kind) for k, v in t.items()})
    yield case("one is missing", lambda t: {k: v for i, (k, v) in enumerate(t.items()) if i % 7})
    yield case("one is left over", lambda t: t | {"model/further": torch.zeros(3), "ema/0.999/further": torch.zeros(3)})
    yield case("transposed", lambda t: {k: v.transpose(0, 1).contiguous() if v.ndim == 2 else v for k, v in t.items()})
    yield case("flat", lambda t: {k: v.reshape(-1) for k, v in t.items()})
    yield case("of no weights", lambda t: {"times/x": torch.zeros(2)})
    yield case("of nothing", lambda t: {})
    yield case("an average of other shapes", lambda t: {k: v[:1].clone() if k.startswith("ema") else v for k,
                                                        v in t.items()})


def cases() -> Iterator[Case]:
    yield from _damaged()
    yield from _lies()
    yield from _values()
