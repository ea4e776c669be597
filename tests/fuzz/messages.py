"""Messages of any type with any values in their fields, mostly sensible ones with something wrong in them."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
}
_NAMES: Final = ["t", "u", "t.dead-letter", "t.*", ">", "g", "h", "p"]
_LENGTHS: Final = [0, 1, 64, 65, 128, 129, 200, 201, 256, 257, 1024, 1025, 4096, 4097, 100_000]

texts = (
    st.sampled_from(_NAMES)
    | st.text(max_size=8)
    | st.builds(
        lambda character, length: character * length, st.sampled_from("aA\0\n.ü\U0010ffff"), st.sampled_from(_LENGTHS)
    )
)


def _integers(least: int, most: int) -> st.SearchStrategy[int]:
    edges = {least, most, 0, 1, most // 2, most // 2 + 1}
    return st.integers(0, 5) | st.sampled_from(sorted(edges)) | st.integers(least, most)


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 4) -> Message:
    """A message of this type. Each field is set or not; what is repeated is short."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name).update(draw(st.dictionaries(texts, texts, max_size=3)))
        elif field.message_type is not None:
            if depth == 0:
                continue
            if field.is_repeated:
                for _ in range(draw(st.sampled_from([1, 2, 21]))):
                    getattr(message, field.name).add().CopyFrom(draw(messages(field.message_type, depth - 1)))
            else:
                getattr(message, field.name).CopyFrom(draw(messages(field.message_type, depth - 1)))
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(values(field), max_size=3)))
        else:
            setattr(message, field.name, draw(values(field)))
    return message


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of a field that holds no message."""
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return texts
        case FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=64)
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_ENUM:
            return st.integers(-1, 6)
        case FieldDescriptor.TYPE_DOUBLE:
            return st.floats()
    return _integers(*_INTEGERS[field.type])


@st.composite
def damaged(draw: st.DrawFn, raw: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of which some were changed, put in, taken out or said to be many more."""
    data = bytearray(draw(raw))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "insert", "cut", "remove", "length", "repeat"])):
            case "change" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "cut":
                del data[at:]
            case "remove":
                del data[at : at + draw(st.integers(1, 8))]
            case "length":
                # A varint that says that far more follows than does.
                data[at : at + 1] = draw(
                    st.sampled_from([b"\xff" * 9 + b"\x01", b"\xff\xff\xff\xff\x0f", b"\x80" * 11])
                )
            case "repeat":
                data[at:at] = data[:at] * draw(st.integers(1, 20))
    return bytes(data)
