"""`telemetry doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from telemetry.console.session import to_json
from telemetry.doctor.data_directory import check_data_directory
from telemetry.doctor.finding import Finding, Verdict
from telemetry.doctor.machine import check_machine
from telemetry.doctor.services import Place, check_services
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.security import connecting

_HOST: Final = "127.0.0.1"
_GRPC: Final = (
    ("queue", 9091, "--queue-port"),
    ("collector", 9092, "--collector-port"),
    ("alerts", 9094, "--alerts-port"),
)
_HTTP: Final = (
    ("dashboard", 8080, "--dashboard-port"),
    ("gateway", 8081, "--api-port"),
    ("collector's HTTP", 8082, "--collector-http-port"),
    ("queue's HTTP", 9090, "--queue-http-port"),
    ("streamer's HTTP", 9093, "--streamer-http-port"),
    ("alerts' HTTP", 9095, "--alerts-http-port"),
)
_SIGNS: Final = {Verdict.OK: ("ok  ", "green"), Verdict.WARN: ("warn", "yellow"), Verdict.FAIL: ("FAIL", "red")}


@click.command("doctor", context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("data"),
    help="The data directory of `telemetry up`, a queue or a collector.",
)
@click.option("--queue", metavar="HOST:PORT", help="A queue that should be there (gRPC).")
@click.option("--collector", multiple=True, metavar="HOST:PORT", help="A collector that should be there (gRPC).")
@click.option("--alerts", metavar="HOST:PORT", help="An alerting service that should be there (gRPC).")
@click.option("--gateway", metavar="HOST:PORT", help="A gateway that should be there (HTTP).")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@connecting("TELEMETRY_")
def doctor(
    data_dir: Path,
    queue: str | None,
    collector: tuple[str, ...],
    alerts: str | None,
    gateway: str | None,
    as_json: bool,
    credentials: Credentials | None,
) -> None:
    """Look at this machine and at the pipeline, and say what is wrong and how to mend it.

    Versions, open files, the clock, the disk, ports and processes. Without addresses it looks at the ports of
    `telemetry up` on this machine. The exit code is 1 when something does not work.
    """
    given = [("queue", queue), *(("collector", each) for each in collector), ("alerts", alerts), ("gateway", gateway)]
    places = [Place(name, address, name == "gateway", True, "") for name, address in given if address]
    for place in places:
        host, _, port = place.address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise click.BadParameter(
                f"{place.address!r} is not host:port, such as 127.0.0.1:9091", param_hint=f"--{place.name}"
            )
    findings = [*check_machine(), *check_data_directory(data_dir), *asyncio.run(_ask(places or _usual(), credentials))]
    if as_json:
        click.echo(to_json([finding.to_json() for finding in findings]))
    else:
        click.echo("\n".join(_lines(findings)))
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        raise click.exceptions.Exit(1)


def _usual() -> list[Place]:
    """The ports of `telemetry up`."""
    return [
        *(Place(name, f"{_HOST}:{port}", False, False, flag) for name, port, flag in _GRPC),
        *(Place(name, f"{_HOST}:{port}", True, False, flag) for name, port, flag in _HTTP),
    ]


async def _ask(places: list[Place], credentials: Credentials | None) -> list[Finding]:
    return [finding async for finding in check_services(places, credentials)]


def _lines(findings: list[Finding]) -> Iterator[str]:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        sign, colour = _SIGNS[finding.verdict]
        yield f"{click.style(sign, fg=colour)}  {finding.check.ljust(width)}  {finding.detail}"
        if finding.remedy:
            yield f"      {' ' * width}  → {finding.remedy}"
    failed = sum(finding.verdict is Verdict.FAIL for finding in findings)
    warned = sum(finding.verdict is Verdict.WARN for finding in findings)
    yield ""
    yield f"{len(findings)} things looked at: {failed} do not work, {warned} deserve attention."
