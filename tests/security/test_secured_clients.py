"""Commands and clients for scripts show who they are, as the long-lived ones do."""

from __future__ import annotations

import asyncio
from pathlib import Path

from click.testing import CliRunner, Result

from telemetry.cli.main import telemetry
from telemetry.queue.client import BlockingPublisher, Credentials
from telemetry.runtime.security import SecurityFlags
from telemetry.runtime.token_file import add_token
from telemetry.runtime.tokens import Right, Role
from tests.security.certificates import Authority, Pair
from tests.security.conftest import serving


async def test_commands_and_scripts_connect_with_certificate_and_token(
    tmp_path: Path, made: Authority, server_pair: Pair, client_pair: Pair
) -> None:
    tokens, token = tmp_path / "tokens", tmp_path / "token"
    rights = {Right.PUBLISH: ("t",), Right.SUBSCRIBE: ("t",)}
    token.write_text(add_token(tokens, "me", Role.VIEW, rights))
    async with serving(SecurityFlags(server_pair.cert, server_pair.key, made.path, tokens)) as server:
        address = f"localhost:{server.grpc_port}"
        files = {"CA": made.path, "CLIENT_CERT": client_pair.cert, "CLIENT_KEY": client_pair.key, "TOKEN_FILE": token}
        environment = {f"TELEMETRY_{name}": str(path) for name, path in files.items()}

        async def run(*arguments: str, environment: dict[str, str] = environment) -> Result:
            runner = CliRunner(env={"TELEMETRY_QUEUE_ADDRESS": address, **environment})
            return await asyncio.to_thread(runner.invoke, telemetry, arguments)

        assert (await run("publish", "t", "hello")).exit_code == 0
        assert "hello" in (await run("browse", "t")).output
        flags = [part for name, path in files.items() for part in (f"--{name.lower().replace('_', '-')}", str(path))]
        assert "hello" in (await run("tail", "t", "--from", "earliest", "-n", "1", *flags, environment={})).output
        refused = await run("topics", "delete", "t", "--yes")
        assert refused.exit_code == 1
        assert "the token me may not administer t" in refused.output
        nobody = await run("topics", "--timeout", "0.5", environment={"TELEMETRY_CA": str(made.path)})
        assert nobody.exit_code == 1
        assert f"the queue at {address} is not available" in nobody.output

        credentials = Credentials(made.path, client_pair.cert, client_pair.key, token)

        def publish() -> int | None:
            with BlockingPublisher(address, credentials=credentials) as publisher:
                return publisher.publish("t", b"again").base_offset

        assert await asyncio.to_thread(publish) == 1
