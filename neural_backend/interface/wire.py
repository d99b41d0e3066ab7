# SPDX-License-Identifier: GPL-3.0-or-later
"""How a message becomes bytes: a fixed prefix, a JSON header, and the raw bytes of its arrays. Nothing is ever
unpickled.

Prefix (little endian): magic 4 bytes, wire version u16, number of arrays u16, header length u32, payload length u64.
An array inside the message stands in the header as ``{"$array": [offset, dtype, shape]}``; offset counts bytes from
the start of the payload.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Message = dict[str, Any]

MAGIC = b"NAvM"
WIRE_VERSION = 1
PREFIX = struct.Struct("<4sHHIQ")
MAX_HEADER = 1 << 20
MAX_PAYLOAD = 64 << 20
MAX_ARRAYS = 4096
MAX_DIMENSIONS = 8
_KEY = "$array"
_DTYPES = {"<f4", "<f8", "<i4", "<i8", "|u1", "|b1"}


class WireError(Exception):
    """The bytes are not a message of ours. The stream cannot be used any further."""


class Reader(Protocol):
    """What :func:`read_message` needs of a stream; fewer bytes than asked for are allowed."""

    def read(self, size: int, /) -> bytes | None: ...


def pack(message: Mapping[str, Any]) -> bytes:
    """Plain data (dicts with string keys, lists, strings, numbers, None, numpy arrays) to bytes.

    Raises WireError when the message is larger than the other side would take, or holds anything else.
    """
    chunks: list[bytes] = []
    offset = 0

    def plain(value: Any) -> Any:
        nonlocal offset
        if isinstance(value, np.ndarray):
            array = np.ascontiguousarray(value)
            dtype = array.dtype.newbyteorder("<").str if array.dtype.itemsize > 1 else array.dtype.str
            if dtype not in _DTYPES:
                raise WireError(f"an array of {value.dtype} cannot be sent")
            data = array.astype(dtype, copy=False).tobytes()
            entry = {_KEY: [offset, dtype, list(value.shape)]}
            chunks.append(data)
            offset += len(data)
            return entry
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        if isinstance(value, np.generic):
            return value.item()
        return value

    try:
        header = json.dumps(plain(message), separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise WireError(f"the message cannot be written: {error}") from error
    if len(header) > MAX_HEADER or offset > MAX_PAYLOAD or len(chunks) > MAX_ARRAYS:
        raise WireError(f"the message is too large: {len(header)} + {offset} bytes, {len(chunks)} arrays")
    return b"".join((PREFIX.pack(MAGIC, WIRE_VERSION, len(chunks), len(header), offset), header, *chunks))


def read_message(stream: Reader) -> Message | None:
    """The next message of a stream, or None when the stream ends between two messages.

    Blocks until a whole message is there. Raises WireError for anything that is not a message within the limits,
    before the memory for it is taken.
    """
    prefix = _read(stream, PREFIX.size, may_end=True)
    if prefix is None:
        return None
    magic, version, arrays, header_length, payload_length = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise WireError(f"the stream holds something else than messages: {prefix!r}")
    if version != WIRE_VERSION:
        raise WireError(f"wire version {version} is not {WIRE_VERSION}")
    if header_length > MAX_HEADER or payload_length > MAX_PAYLOAD or arrays > MAX_ARRAYS:
        raise WireError(
            f"a message of {header_length} + {payload_length} bytes with {arrays} arrays is over the limits"
        )
    header = _read(stream, header_length) or b""
    payload = _read(stream, payload_length) or b""
    try:
        data = json.loads(header.decode())
    except (ValueError, RecursionError) as error:
        raise WireError(f"the header is not JSON: {error}") from error
    message = _restore(data, payload)
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise WireError("the message has no type")
    return message


def _read(stream: Reader, size: int, may_end: bool = False) -> bytes | None:
    parts: list[bytes] = []
    missing = size
    while missing:
        part = stream.read(missing)
        if not part:
            if may_end and missing == size:
                return None
            raise WireError(f"the stream ended inside a message, {missing} of {size} bytes short")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _restore(value: Any, payload: bytes) -> Any:
    if isinstance(value, list):
        return [_restore(v, payload) for v in value]
    if not isinstance(value, dict):
        return value
    if _KEY not in value:
        return {k: _restore(v, payload) for k, v in value.items()}
    match value[_KEY]:
        case [int(offset), str(dtype), list(shape)]:
            pass
        case _:
            raise WireError("an array is described wrongly")
    if dtype not in _DTYPES or len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise WireError(f"an array of type {dtype!r} and shape {shape!r} is not allowed")
    count = math.prod(shape)
    if offset < 0 or offset + count * np.dtype(dtype).itemsize > len(payload):
        raise WireError("an array lies outside its message")
    return np.frombuffer(payload, dtype, count, offset).reshape(shape)
