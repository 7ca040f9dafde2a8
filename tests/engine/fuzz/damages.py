"""Strategies: a file that its own library wrote, with something wrong in it.

Bytes that are wrong at random hardly come past a checksum or a parser's first line. So a file is changed
where it is read: an archive's entries, and what its directory says of them; a pickle's opcodes; the values
of JSON and of protobuf; the numbers of a text. All else is put together again as it should be.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import onnx
from hypothesis import strategies as st

# Where sizes and offsets go wrong: the ends of their types, and what is a little more than there is.
NUMBERS = [
    0, 1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1,
]  # fmt: skip
ANSWERS = [
    *NUMBERS, -1, -(2**31), 10**30, 1e308, float("nan"), True, None, "", "x" * 5000, "é\0", [], {}, [0] * 9,
]  # fmt: skip
ANSWERS += [json.loads("[" * 60 + "]" * 60)]
# What a pickle is made to do: calls, builds, globals, the stack below nothing, the memo beyond its end.
OPCODES = [
    b"R", b"b", b"\x81", b"\x93", b"(", b"t", b"0", b"2", b".", b"Q", b"e", b"u", b"h\xff",
    b"j\xff\xff\xff\x7f", b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n", b"J\xff\xff\xff\x7f", b"\x8a\x09" + b"\xff" * 8 + b"\x00",
    b"X\xff\xff\xff\x7f", b"]" * 500, b"}" * 50, b"K\x00",
]  # fmt: skip
_CENTRAL, _END = b"PK\x01\x02", b"PK\x05\x06"
_CENTRAL_FIELDS = {8: 2, 10: 2, 16: 4, 20: 4, 24: 4, 28: 2, 30: 2, 32: 2, 42: 4}
_END_FIELDS = {8: 2, 10: 2, 12: 4, 16: 4, 20: 2}
_NUMBER = re.compile(rb"-?\d+(\.\d+)?(e[+-]?\d+)?")

places = st.floats(0, 1, exclude_max=True)


class File(NamedTuple):
    """What is damaged, and what pieces of another file come from."""

    name: str
    data: bytes
    other: bytes

    def __repr__(self) -> str:
        return self.name


@st.composite
def damaged(draw: st.DrawFn, file: File) -> bytes:
    """The file with one to three damages."""
    data = file.data
    for _ in range(draw(st.integers(1, 3))):
        strategy = draw(st.sampled_from([_of_content(data), lambda data: raw(data, file.other)]))
        data = draw(strategy(data))
    return data


def _of_content(data: bytes) -> Callable[[bytes], st.SearchStrategy[bytes]]:
    if data.startswith(b"PK\x03\x04"):
        return archives
    if data[8:9] == b"{" and data[:1] != b"{" and int.from_bytes(data[:8], "little") < len(data):
        return headers
    if data[:1] == b"{" and data[1:2] != b"L":
        return texts_of_json
    if data[:1] == b"\x80":
        return pickles
    if data[:1] == b"\x08":
        return protobufs
    return texts


def at(data: bytes, place: float, room: int = 0) -> int:
    return int(place * max(1, len(data) - room))


@st.composite
def raw(draw: st.DrawFn, data: bytes, other: bytes = b"") -> bytes:
    """Bits, numbers, an end that is missing, pieces cut out, repeated, or of another file."""
    how = draw(st.sampled_from(["bits", "number", "cut", "without", "twice", "other"]))
    start = at(data, draw(places))
    if how == "bits":
        changed = bytearray(data)
        for place, bit in draw(st.lists(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=8)):
            if changed:
                changed[at(data, place)] ^= 1 << bit
        return bytes(changed)
    if how == "number":
        size = draw(st.sampled_from([1, 2, 4, 8]))
        number = draw(st.sampled_from(NUMBERS)) % (1 << 8 * size)
        return (
            data[:start]
            + number.to_bytes(size, draw(st.sampled_from(["little", "big"])))
            + data[start + size :]
        )
    if how == "cut":
        return data[:start]
    piece = other if how == "other" else data
    begin = at(piece, draw(places))
    size = draw(st.integers(1, 600))
    if how == "without":
        return data[:start] + data[start + size :]
    return data[:start] + piece[begin : begin + size] * draw(st.sampled_from([1, 1, 1, 40])) + data[start:]


# --- archives: of torch, TorchScript, torch.export and skops


@st.composite
def archives(draw: st.DrawFn, data: bytes) -> bytes:
    """An entry, or what the directory says."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [
                (entry.filename, archive.read(entry), entry.compress_type) for entry in archive.infolist()
            ]
    except Exception:  # it was damaged before, in whatever way
        return draw(directories(data))
    if not entries or draw(st.integers(0, 3)) == 0:
        return draw(directories(data))
    index = draw(st.integers(0, len(entries) - 1))
    name, content, packed = entries[index]
    how = draw(
        st.sampled_from(["content", "content", "content", "gone", "twice", "name", "packed", "swapped"])
    )
    if how == "content":
        entries[index] = name, draw(contents(name, content)), packed
    elif how == "gone":
        del entries[index]
    elif how == "twice":
        entries.append((name, draw(contents(name, content)), packed))
    elif how == "name":
        root = name.partition("/")[0]
        names = [each for each, *_ in entries] + [
            f"{root}/../{name}",
            f"/{name}",
            (name * 20)[:9000],
            f"{root}/data/9",
            name[:-1],
        ]
        entries[index] = draw(st.sampled_from(names)), content, packed
    elif how == "packed":
        entries[index] = (
            name,
            content,
            draw(st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])),
        )
    else:
        other = draw(st.integers(0, len(entries) - 1))
        entries[index] = name, entries[other][1], packed
    return zipped(entries)


def zipped(entries: list[tuple[str, bytes, int]]) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice, which is meant
        for name, content, packed in entries:
            archive.writestr(name, content, packed)
    return out.getvalue()


def contents(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    """An entry by what is in it."""
    if name.endswith(".pkl") or content[:1] == b"\x80":
        return pickles(content)
    if content[:1] in (b"{", b"["):
        return texts_of_json(content)
    if name.endswith(".py"):
        return texts(content) | raw(content)
    return raw(content)


@st.composite
def directories(draw: st.DrawFn, data: bytes) -> bytes:
    """What the directory says of an entry, or of itself."""
    heads = [(match.start(), _CENTRAL_FIELDS) for match in re.finditer(re.escape(_CENTRAL), data)]
    heads += [(match.start(), _END_FIELDS) for match in re.finditer(re.escape(_END), data)]
    if not heads:
        return draw(raw(data))
    head, fields = draw(st.sampled_from(heads))
    offset, size = draw(st.sampled_from(sorted(fields.items())))
    number = draw(st.sampled_from(NUMBERS)) % (1 << 8 * size)
    start = head + offset
    return data[:start] + number.to_bytes(size, "little") + data[start + size :]


# --- what is in them


@st.composite
def pickles(draw: st.DrawFn, data: bytes) -> bytes:
    """An opcode that goes, comes, is another, or comes twice."""
    try:
        ends = [position or 0 for _, _, position in pickletools.genops(data)] + [len(data)]
    except Exception:
        return draw(raw(data))
    index = draw(st.integers(0, len(ends) - 2))
    start, end = ends[index : index + 2]
    new = draw(st.sampled_from([*OPCODES, b"", data[start:end] * 2]))
    if draw(st.booleans()):  # beside it, rather than in its place
        end = start
    return data[:start] + new + data[end:]


@st.composite
def headers(draw: st.DrawFn, data: bytes) -> bytes:
    """The JSON that a safetensors file begins with."""
    size = int.from_bytes(data[:8], "little")
    header = draw(texts_of_json(data[8 : 8 + size]))
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


@st.composite
def texts_of_json(draw: st.DrawFn, data: bytes) -> bytes:
    """A value that is another, that of another place, or not there."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return draw(raw(data))
    spots = list(_spots(value))
    if not spots:
        return data + b"x"
    place, key = draw(st.sampled_from(spots))
    how = draw(st.sampled_from(["other", "other", "swapped", "gone"]))
    if how == "other":
        place[key] = draw(st.sampled_from(ANSWERS))
    elif how == "swapped":
        there, index = draw(st.sampled_from(spots))
        place[key] = json.loads(json.dumps(there[index]))
    else:
        del place[key]
    return json.dumps(value).encode()


def _spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value inside: what holds it, and under which key."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield value, key
        yield from _spots(each)


@st.composite
def texts(draw: st.DrawFn, data: bytes) -> bytes:
    """A number that is another, or a line that goes or comes twice."""
    numbers = list(_NUMBER.finditer(data))
    if numbers and draw(st.integers(0, 3)):
        found = draw(st.sampled_from(numbers))
        new = draw(
            st.sampled_from([str(each).encode() for each in (*NUMBERS, -1, 1e308, "nan", "", "x", -(2**31))])
        )
        return data[: found.start()] + new + data[found.end() :]
    lines = data.splitlines(keepends=True) or [b""]
    index = draw(st.integers(0, len(lines) - 1))
    lines[index : index + 1] = draw(
        st.sampled_from([[], lines[index : index + 1] * 2, [draw(st.sampled_from(lines))]])
    )
    return b"".join(lines)


@st.composite
def protobufs(draw: st.DrawFn, data: bytes) -> bytes:
    """A field of an ONNX model."""
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:
        return draw(raw(data))
    message, field, value = draw(st.sampled_from(list(_fields(model))))
    new: Any
    if field.cpp_type == field.CPPTYPE_STRING:
        is_text = field.type == field.TYPE_STRING
        new = draw(st.sampled_from(["", "x" * 5000, "image", "y", "a", "b", "Loop", "If", "../x"]))
        new = new if is_text else new.encode()
    elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        new = draw(st.sampled_from([0.0, float("nan"), float("inf"), -1e30]))
    elif field.cpp_type == field.CPPTYPE_MESSAGE:
        return _without(model, message, field.name, draw(places))
    else:
        bits = 31 if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_ENUM) else 63
        new = draw(
            st.sampled_from([-1, -(2**bits), 2**bits - 1, *(each for each in NUMBERS if each < 2**bits)])
        )
        if field.cpp_type == field.CPPTYPE_ENUM:
            new = draw(st.sampled_from([each.number for each in field.enum_type.values]))
    if _is_list(value):
        value[at(value, draw(places))] = new
    else:
        setattr(message, field.name, new)
    return model.SerializeToString()


def _without(model: Any, message: Any, name: str, place: float) -> bytes:
    """A part that goes, or of several one that comes twice."""
    parts = getattr(message, name)
    if _is_list(parts):
        index = at(parts, place)
        if place < 0.5:
            del parts[index]
        else:
            parts.add().CopyFrom(parts[index])
    else:
        message.ClearField(name)
    data: bytes = model.SerializeToString()
    return data


def _fields(message: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Every field that is set, of it and of what is in it, with its value."""
    for field, value in message.ListFields():
        yield message, field, value
        if field.cpp_type == field.CPPTYPE_MESSAGE:
            for each in value if _is_list(value) else [value]:
                yield from _fields(each)


def _is_list(value: Any) -> bool:
    return hasattr(value, "extend")
