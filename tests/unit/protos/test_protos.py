"""The contract says what every field means, and the private twins have the same wire format."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.rpc import status_pb2
from grpc_tools import protoc

from telemetry.queue import wire_pb2
from telemetry.v1 import queue_admin_pb2, queue_pb2

ROOT = Path(__file__).resolve().parents[3]
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))
# What a field may begin with in a message that clients send.
ORIGINS = ("Required.", "Optional.", "Output only.", "What this request is.")


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    out = tmp_path_factory.mktemp("protos") / "set.bin"
    code = protoc.main(
        [
            "protoc",
            f"-I{ROOT / 'protos'}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"-I{Path(status_pb2.__file__).parents[2]}",
            "--include_source_info",
            f"--descriptor_set_out={out}",
            *map(str, PROTOS),
        ]
    )
    assert code == 0
    return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def fields(file: FileDescriptorProto) -> Iterator[tuple[DescriptorProto, str, str]]:
    """Message, field name and leading comment of every field."""
    comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
    for at, message in enumerate(file.message_type):
        for number, field in enumerate(message.field):
            yield message, field.name, comments.get((4, at, 2, number), "")


def test_every_field_says_what_it_means(parsed: list[FileDescriptorProto]) -> None:
    silent = [f"{message.name}.{name}" for file in parsed for message, name, comment in fields(file) if not comment]
    assert silent == []


def test_every_field_of_a_request_says_whether_it_is_required(parsed: list[FileDescriptorProto]) -> None:
    sent = {"Message", "MessageBatch", "SubscribeStart", "SubscribeFlow", "AckEntry", "Retention", "TopicLimits"}
    vague = [
        f"{message.name}.{name}"
        for file in parsed
        for message, name, comment in fields(file)
        if (message.name.endswith("Request") or message.name in sent)
        and not comment.startswith(ORIGINS)
        and not any(field.name == name and field.HasField("oneof_index") for field in message.field)
    ]
    assert vague == []


@pytest.mark.parametrize(
    ("twin", "public"),
    [
        (wire_pb2.PublishRequest.DESCRIPTOR, queue_pb2.PublishRequest.DESCRIPTOR),
        (wire_pb2.Delivery.DESCRIPTOR, queue_pb2.Delivery.DESCRIPTOR),
        (wire_pb2.SubscribeResponse.DESCRIPTOR, queue_pb2.SubscribeResponse.DESCRIPTOR),
        (wire_pb2.BrowseResponse.DESCRIPTOR, queue_admin_pb2.BrowseResponse.DESCRIPTOR),
    ],
    ids=lambda descriptor: str(descriptor.full_name),
)
def test_a_private_twin_has_the_wire_format_of_the_public_message(twin: Descriptor, public: Descriptor) -> None:
    ours = {field.number: field for field in twin.fields}
    theirs = {field.number: field for field in public.fields}
    assert {number: field.name for number, field in ours.items()} == {n: f.name for n, f in theirs.items()}
    for number, field in theirs.items():
        if field.name == "batch":
            assert ours[number].type == field.TYPE_BYTES
        else:
            assert ours[number].type == field.type
