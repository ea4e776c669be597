"""What is half given, unreadable or wrong is refused at the start, by flag, file and remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from telemetry.cli.main import SUBCOMMANDS, load, telemetry
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.errors import StartupError
from telemetry.runtime.security import SecurityFlags
from telemetry.runtime.token_file import add_token
from telemetry.runtime.tokens import Role, Tokens
from tests.security.certificates import Authority, Pair
from tests.unit.test_docs import commands_in

NOBODY = 65534


@contextmanager
def another_user() -> Iterator[None]:
    """Be a user to whom permissions mean something."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def elsewhere(tmp_path: Path, authority: Authority) -> dict[str, Path]:
    """Files by what they are."""
    good, other = authority.sign("good"), authority.sign("other")
    (tmp_path / "text").write_text("no PEM")
    files = {
        "ca": authority.path,
        "cert": good.cert,
        "key": good.key,
        "other key": other.key,
        "locked key": authority.sign("locked", passphrase=b"secret").key,
        "text": tmp_path / "text",
        "missing": tmp_path / "missing",
        "tokens": tmp_path / "tokens",
    }
    add_token(files["tokens"], "a", Role.VIEW, {})
    return files


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"tls_cert": "cert"}, "--tls-cert needs --tls-key"),
        ({"tls_key": "key"}, "--tls-key needs --tls-cert"),
        ({"tls_client_ca": "ca"}, "--tls-client-ca needs --tls-cert and --tls-key"),
        ({"tls_cert": "cert", "tls_key": "other key"}, "--tls-key .*other.key is not the key of --tls-cert .*good.crt"),
        ({"tls_cert": "cert", "tls_key": "missing"}, "--tls-key .*missing cannot be read: No such file"),
        ({"tls_cert": "text", "tls_key": "key"}, "--tls-cert .*text is not PEM"),
        ({"tls_cert": "key", "tls_key": "key"}, "--tls-cert .*good.key holds no certificate"),
        ({"tls_cert": "cert", "tls_key": "cert"}, "--tls-key .*good.crt holds no private key"),
        ({"tls_cert": "cert", "tls_key": "locked key"}, "--tls-key .*locked.key is encrypted.*openssl pkey"),
        ({"tls_cert": "cert", "tls_key": "key", "tls_client_ca": "key"}, "--tls-client-ca .*good.key holds no cert"),
        ({"tokens": "missing"}, "--tokens .*missing cannot be read: No such file.*telemetry token create"),
        ({"tokens": "text"}, "text, line 1: this is not JSON"),
    ],
)
def test_a_server_does_not_start_half_guarded(elsewhere: dict[str, Path], flags: dict[str, str], says: str) -> None:
    given: dict[str, Any] = {flag: elsewhere[what] for flag, what in flags.items()}
    with pytest.raises(StartupError, match=says):
        replace(SecurityFlags(), **given).load("127.0.0.1")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"ca": "ca", "client_cert": "cert"}, "--client-cert needs --client-key"),
        ({"ca": "ca", "client_key": "key"}, "--client-key needs --client-cert"),
        ({"client_cert": "cert", "client_key": "key"}, "--client-cert needs --ca"),
        ({"ca": "missing"}, "--ca .*missing cannot be read"),
        ({"ca": "key"}, "--ca .*good.key holds no certificates"),
        (
            {"ca": "ca", "client_cert": "cert", "client_key": "other key"},
            "--client-key .* is not the key of --client-cert",
        ),
        ({"token_file": "missing"}, "--token-file .*missing cannot be read"),
        ({"token_file": "text"}, "--token-file .*text has to hold one token"),
    ],
)
def test_a_client_does_not_start_half_equipped(elsewhere: dict[str, Path], files: dict[str, str], says: str) -> None:
    with pytest.raises(StartupError, match=says):
        Credentials(**{name: elsewhere[what] for name, what in files.items()}).check()


@pytest.mark.parametrize("flag", ["tls_key", "tokens"])
def test_a_file_that_may_not_be_read_is_named(elsewhere: dict[str, Path], flag: str) -> None:
    flags = {
        "tls_key": SecurityFlags(elsewhere["cert"], elsewhere["key"]),
        "tokens": SecurityFlags(tokens=elsewhere["tokens"]),
    }
    for path in (elsewhere["key"], elsewhere["tokens"]):
        path.chmod(0)
    for folder in (elsewhere["key"].parent, *elsewhere["key"].parents[:-1]):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    with another_user(), pytest.raises(StartupError, match=f"--{flag.replace('_', '-')} .*: Permission denied"):
        flags[flag].load("127.0.0.1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "somewhere.example"])
def test_others_may_connect_only_with_tls_or_tokens_or_when_it_is_said_aloud(
    elsewhere: dict[str, Path], host: str
) -> None:
    with pytest.raises(StartupError, match=f"--host {host} .*--tls-cert and --tls-key, or --tokens, or say --insecure"):
        SecurityFlags().load(host)
    SecurityFlags(insecure=True).load(host)
    SecurityFlags(tokens=elsewhere["tokens"]).load(host)
    SecurityFlags(elsewhere["cert"], elsewhere["key"]).load(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_is_open_to_this_machine(host: str) -> None:
    SecurityFlags().load(host)


def test_what_is_only_half_safe_is_logged(elsewhere: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    SecurityFlags(tokens=elsewhere["tokens"]).load("0.0.0.0")
    assert "tokens cross the network in the clear" in caplog.text
    caplog.clear()
    elsewhere["key"].chmod(0o644)
    SecurityFlags(elsewhere["cert"], elsewhere["key"]).load("0.0.0.0")
    assert "nothing checks who connects" in caplog.text
    assert "everybody on this machine can read the key" in caplog.text
    caplog.clear()
    elsewhere["key"].chmod(0o600)
    SecurityFlags(elsewhere["cert"], elsewhere["key"], elsewhere["ca"]).load("0.0.0.0")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[]", "a token is a JSON object"),
        ('{"sha256": "%s"}', "name has to be"),
        ('{"name": "a b", "sha256": "%s"}', "name has to be"),
        ('{"name": "b"}', "sha256 has to be 64 digits"),
        ('{"name": "b", "sha256": "%s", "role": "root"}', "role has to be one of none, view, operate, admin"),
        ('{"name": "b", "sha256": "%s", "publish": "gpu"}', "publish has to be a list"),
        (
            '{"name": "b", "sha256": "%s", "publish": ["gpu.>.a"]}',
            "publish: 'gpu.>.a' is neither a topic nor a pattern",
        ),
        ('{"name": "b", "sha256": "%s", "publsh": ["gpu"]}', "nothing is called 'publsh'"),
        ('{"name": "a", "sha256": "%s"}', "there is a token 'a' before"),
    ],
)
def test_a_line_of_the_tokens_that_is_wrong_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "tokens"
    add_token(path, "a", Role.VIEW, {})
    text = line.replace("%s", "0" * 64)
    path.write_text(f"# whose\n{path.read_text()}\n{text}\n")
    with pytest.raises(StartupError, match=f"{path}, line 4: {says}"):
        Tokens(path)


def test_tokens_that_everybody_can_write_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    add_token(path, "a", Role.VIEW, {})
    path.chmod(0o666)
    with pytest.raises(StartupError, match=f"can be written by everybody.*chmod o-w {path}"):
        Tokens(path)


@pytest.mark.parametrize("name", ["queue", "streamer", "collector", "gateway", "alerts"])
def test_every_process_has_the_same_flags(name: str) -> None:
    command = load(name)
    if isinstance(command, click.Group):
        command = command.get_command(click.Context(command), "serve") or command
    flags = {flag for each in command.params for flag in each.opts}
    assert {"--tls-cert", "--tls-key", "--tls-client-ca", "--tokens", "--insecure", "--rate-limit"} <= flags
    assert name == "queue" or {"--ca", "--client-cert", "--client-key", "--token-file"} <= flags


def test_every_command_that_calls_others_can_show_who_it_is() -> None:
    lacking = []
    for name in SUBCOMMANDS:
        command = load(name)
        for each in commands_in(command):
            flags = {flag for option in each.params for flag in option.opts}
            if flags & {"--queue", "--collector"} and not {"--ca", "--token-file"} <= flags:
                lacking.append(each.name)
    assert lacking == []


def test_a_command_says_which_file_is_wrong(elsewhere: dict[str, Path]) -> None:
    result = CliRunner().invoke(telemetry, ["topics", "--ca", str(elsewhere["text"])])
    assert result.exit_code == 1
    assert f"--ca {elsewhere['text']} is not PEM" in result.output


def test_tokens_are_made_shown_once_and_revoked(tmp_path: Path) -> None:
    path = tmp_path / "tokens"

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(telemetry, ["token", *arguments, "--tokens", str(path)])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.output

    secret = run("create", "streamer", "--publish", "telemetry", "--publish", "gpu.*").strip()
    run("create", "viewer", "--role", "view")
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret not in path.read_text()
    found = Tokens(path).find(secret)
    assert found is not None
    assert found.name == "streamer"
    assert "gpu.*" in run("list")
    assert "already" in run("create", "viewer", code=1) or "has a token 'viewer'" in run("create", "viewer", code=1)
    assert "neither a topic" in run("create", "x", "--publish", "A!", code=1)
    run("revoke", "streamer")
    assert Tokens(path).find(secret) is None
    assert "has no token" in run("revoke", "streamer", code=1)
    assert '"viewer"' in run("list", "--json")


def test_comments_and_other_lines_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    add_token(path, "a", Role.VIEW, {})
    path.chmod(0o640)
    path.write_text(f"# the pipeline\n{path.read_text().strip()}")
    add_token(path, "b", Role.VIEW, {})
    CliRunner().invoke(telemetry, ["token", "revoke", "a", "--tokens", str(path)])
    lines = path.read_text().splitlines()
    assert lines[0] == "# the pipeline"
    assert len(lines) == 2
    assert path.stat().st_mode & 0o777 == 0o640


def test_neither_tokens_nor_hashes_nor_keys_show_when_things_are_printed(tmp_path: Path, server_pair: Pair) -> None:
    secret = add_token(tmp_path / "tokens", "a", Role.VIEW, {})
    (tmp_path / "token").write_text(secret)
    found = Tokens(tmp_path / "tokens").find(secret)
    shown = repr((found, Credentials(token_file=tmp_path / "token"), SecurityFlags(server_pair.cert, server_pair.key)))
    assert secret not in shown
    assert found is not None
    assert found.sha256 not in shown


@pytest.mark.parametrize("name", ["queue", "collector", "streamer", "gateway", "alerts serve"])
def test_no_process_listens_for_others_unguarded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = ["any.csv"] if name == "streamer" else []
    result = CliRunner().invoke(telemetry, [*name.split(), "--host", "0.0.0.0", *files])
    assert result.exit_code == 1
    assert "give --tls-cert and --tls-key, or --tokens, or say --insecure" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--tls-cert", "cert", "--tls-key", "key"), "--tls-cert needs --ca"),
        (("--tokens", "tokens"), "--tokens needs --token-file"),
        (("--tokens", "tokens", "--ca", "ca"), "--tokens needs --token-file"),
    ],
)
def test_a_collector_has_to_be_able_to_call_its_own_queue(
    elsewhere: dict[str, Path], tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    given = [part if part.startswith("--") else str(elsewhere[part]) for part in flags]
    result = CliRunner().invoke(telemetry, ["collector", "--data-dir", str(tmp_path / "data"), *given])
    assert result.exit_code == 1
    assert f"without --queue, {says}" in result.stderr
