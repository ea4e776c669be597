"""Our errors as google.rpc.Status, with the details that fit."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from telemetry.queue.core import errors
from telemetry.runtime.status import HTTP_STATUS, CodedError, InvalidArgumentError, status_code, to_status


def test_a_wrong_field_becomes_a_bad_request() -> None:
    status = to_status(InvalidArgumentError("must be blue", field="color"))
    details = error_details_pb2.BadRequest()
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert status.details[0].Unpack(details)
    assert [(each.field, each.description) for each in details.field_violations] == [("color", "must be blue")]


def test_a_failed_precondition_names_its_subject() -> None:
    status = to_status(errors.PreconditionError("the epoch is older", field="producer_epoch"))
    details = error_details_pb2.PreconditionFailure()
    assert status.details[0].Unpack(details)
    assert [each.subject for each in details.violations] == ["producer_epoch"]


def test_a_full_topic_says_when_to_try_again() -> None:
    status = to_status(errors.FullError("topic is full", retry_after_s=0.25))
    details = error_details_pb2.RetryInfo()
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert status.details[0].Unpack(details)
    assert details.retry_delay.ToMilliseconds() == 250


@pytest.mark.parametrize("kind", errors.QueueError.__subclasses__())
def test_every_error_of_the_queue_has_a_status(kind: type[errors.QueueError]) -> None:
    error = kind("no")
    assert isinstance(error, CodedError)
    assert status_code(error) in HTTP_STATUS
    assert not to_status(error).details
