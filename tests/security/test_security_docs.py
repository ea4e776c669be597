"""What docs/security.md tells people to type does what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetry.cli.main import telemetry
from telemetry.queue.client import Credentials, QueueAdmin
from telemetry.runtime.security import SecurityFlags
from telemetry.runtime.tokens import read_tokens
from tests.security.conftest import serving
from tests.security.test_secured_pipeline import TOKENS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")
async def test_the_certificates_that_it_makes_are_good(tmp_path: Path) -> None:
    script = next(block for block in BLOCKS if "openssl req" in block)
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, capture_output=True)
    ca, cert, key = (tmp_path / name for name in ("ca.crt", "queue.crt", "queue.key"))
    async with serving(SecurityFlags(cert, key, ca)) as server:
        credentials = Credentials(ca, tmp_path / "collector.crt", tmp_path / "collector.key")
        async with QueueAdmin(f"localhost:{server.grpc_port}", credentials=credentials) as admin:
            assert await admin.topics() == []


def test_the_tokens_that_it_makes_have_the_rights_that_the_processes_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    block = next(block for block in BLOCKS if "telemetry token create" in block).replace("\\\n", " ")
    for line in block.splitlines():
        if "token create" in line:
            result = CliRunner().invoke(telemetry, line.partition(">")[0].split()[1:])
            assert result.exit_code == 0, result.output
    made = {token.name: token for token in read_tokens(tmp_path / "tokens")}
    for name, (role, rights) in TOKENS.items():
        if name in made:
            assert made[name].role == role
            assert {right: set(topics) for right, topics in made[name].rights.items() if topics} == {
                right: set(topics) for right, topics in rights.items()
            }
    assert {"streamer", "collector", "alerts", "gateway"} <= set(made)
