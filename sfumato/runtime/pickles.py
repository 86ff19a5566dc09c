"""What a pickle would do, found out without doing it: the names that it asks for, and bounds of its size and depth.

torch's unpickler for weights runs nothing, but it fills memory on request, and a tuple in tuples as a key ends the
process; so every pickle is looked through first.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

LARGEST = 64 << 20
"""Bytes of a pickle: names, shapes and an optimiser's numbers of a network of any size."""
OPERATIONS = 2_000_000
DEPTH = 100

IN_PLACE = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
UNUSED = {"BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}
"""What no file of tensors has; the first takes memory before there is anything to put in it."""


class _Value(NamedTuple):
    """What is known of a value: how deep it is nested, and its text, or that of its last part."""

    depth: int = 0
    text: str = ""


MARK = _Value(-1)


def names_in(stream: IO[bytes]) -> set[str]:
    """The names that the next pickle of a stream asks for, as module.name; the stream is then behind it.

    Raises:
        ValueError: no pickle, or one that is larger or deeper than one of tensors can be.
    """
    stack: list[_Value] = []
    memo: dict[int, _Value] = {}
    names: set[str] = set()
    try:
        for count, (op, arg) in enumerate(_operations(stream)):
            if count > OPERATIONS:
                raise ValueError(f"more than {OPERATIONS:,} operations")
            _apply(op, arg, stack, memo, names)
            if stack and stack[-1].depth > DEPTH:
                raise ValueError(f"nested more than {DEPTH} deep")
    except (IndexError, KeyError, StopIteration, OverflowError, MemoryError):
        raise ValueError("no whole pickle") from None
    return names


def _operations(stream: IO[bytes]) -> Iterator[tuple[Any, Any]]:
    for op, arg, _ in pickletools.genops(stream):
        if op.name in UNUSED:
            raise ValueError(f"the operation {op.name}, which no file of tensors has")
        yield op, arg


def _apply(op: Any, arg: Any, stack: list[_Value], memo: dict[int, _Value], names: set[str]) -> None:
    """One operation on what is known of the stack; IndexError or KeyError where it asks for what is not there."""
    name: str = op.name
    if name == "MARK":
        stack.append(MARK)
    elif name == "MEMOIZE" or name.endswith("PUT"):
        at = len(memo) if arg is None else int(arg)
        if at > OPERATIONS:
            raise ValueError(f"a memory of {at:,} values")
        memo[at] = stack[-1]
    elif name.endswith("GET"):
        stack.append(memo[int(arg)])
    elif name == "DUP":
        stack.append(stack[-1])
    elif name == "GLOBAL":
        stack.append(_named(str(arg).replace(" ", ".", 1), names))
    elif name == "STACK_GLOBAL":
        (module, member), stack[-2:] = stack[-2:], []
        stack.append(_named(f"{module.text}.{member.text}", names))
    else:
        taken = _taken(op, stack)
        depth = max((value.depth for value in taken), default=-1) + 1
        if name in IN_PLACE:
            stack.append(_Value(max(taken[0].depth, 1 + max((v.depth for v in taken[1:]), default=-1))))
            return
        if name == "REDUCE" and taken[0].text == "_codecs.encode" and taken[1].text not in ("latin1", "latin-1"):
            raise ValueError("bytes in another encoding than latin1")
        text = arg if isinstance(arg, str) else taken[-1].text if taken and name.startswith("TUPLE") else ""
        stack.extend(_Value(depth if taken else 0, text) for _ in op.stack_after)


def _named(name: str, names: set[str]) -> _Value:
    name = f"builtins.{name.partition('.')[2]}" if name.startswith("__builtin__.") else name  # Python 2 called it so
    names.add(name)
    return _Value(0, name)


def _taken(op: Any, stack: list[_Value]) -> list[_Value]:
    """What an operation takes from the stack, in order."""
    before = [kind.name for kind in op.stack_before]
    taken: list[_Value] = []
    if "mark" in before:
        at = next(i for i in reversed(range(len(stack))) if stack[i] is MARK)
        taken, stack[at:] = stack[at + 1 :], []
        before = before[: before.index("mark")]
    if len(before) > len(stack):
        raise IndexError
    if before:
        taken, stack[-len(before) :] = stack[-len(before) :] + taken, []
    return taken
