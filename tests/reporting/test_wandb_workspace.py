"""The W&B workspace as it would be saved; the service itself is a stand-in on this machine."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from carlt.errors import CarltError
from carlt.reporting import wandb_workspace as dashboard

# wandb-workspaces declares its models in pydantic's older way.
pytestmark = pytest.mark.filterwarnings("ignore")
LOGGED = {"val/worst_class", "val/balanced_accuracy", "val/few", "val/medium", "val/many", "train_batches/worst_class",
          "car/spectral_norm", "car/ema_gap", "car/time_share", "car/skipped_steps", "train/loss",
          "train/penalty"}  # fmt: skip


def strings(node: Any) -> set[str]:
    """Every text in a JSON document."""
    if isinstance(node, dict):
        return {text for item in node.values() for text in strings(item)}
    if isinstance(node, list):
        return {text for item in node for text in strings(item)}
    return {node} if isinstance(node, str) else set()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("dashboard") / "workspace.json"
    dashboard.main(["me/carlt", f"file={path}"])
    return json.loads(path.read_text())


def test_a_workspace_without_the_service(written: dict[str, Any]) -> None:
    assert (written["entity"], written["project"], written["displayName"]) == ("me", "carlt", "carlt")
    texts = strings(written)
    assert texts >= LOGGED
    assert {"plots/confusion", "plots/per_class"} <= texts
    assert any("per_class" in text for text in texts - {"plots/per_class"})
    assert all(any(name in text for text in texts) for name in dashboard.BARS)


def test_it_shows_what_runs_log(finished: Path) -> None:
    from carlt.runs import paths
    from carlt.runs.record import read_result
    from carlt.training.callbacks import read_rows

    logged = {name for row in read_rows(finished / paths.METRICS) for name in row}
    curves = {name for section in dashboard.CURVES.values() for names in section.values() for name in names}
    curves -= {"train/learning_rate", "train/images_per_s"}  # the loggers alone have them
    assert curves <= logged
    assert set(dashboard.BARS) <= read_result(finished)["metrics"].keys()
    assert {f"plots/{path.stem}" for path in (finished / "plots").glob("*.png")} >= set(dashboard.PICTURES.values())


@pytest.mark.parametrize("arguments", [["carlt"], ["me/"], ["a/b/c"], ["me/carlt", "more"]])
def test_a_project_has_an_entity(arguments: list[str]) -> None:
    with pytest.raises(CarltError, match="expected <entity>/<project>"):
        dashboard.main(arguments)


def test_without_a_key_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(CarltError, match="needs a W&B key: wandb login"):
        dashboard.main(["me/carlt"])


class StandIn(BaseHTTPRequestHandler):
    """Answers as W&B's GraphQL does, and keeps what it was asked."""

    asked: list[dict[str, Any]] = []

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(content)
        user = {"id": "1", "username": "me", "entity": "me", "flags": "{}", "teams": {"edges": []}}
        view = {"view": {"id": "7", "name": "nw-abc-v"}, "inserted": True}
        body = json.dumps({"data": {"viewer": user, "upsertView": view, "serverInfo": {}}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    StandIn.asked.clear()
    with HTTPServer(("127.0.0.1", 0), StandIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def command(home: Path, url: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "WANDB_BASE_URL": url, "WANDB_API_KEY": "x" * 40, "PATH": "/usr/bin:/bin"}
    environment["PYTHONPATH"] = str(Path(dashboard.__file__).parents[2])
    line = [sys.executable, "-m", "carlt.report", "dashboard", "me/carlt"]
    return subprocess.run(line, cwd=home, env=environment, capture_output=True, text=True, timeout=120)


def test_a_workspace_is_saved_without_a_click(service: str, tmp_path: Path, written: dict[str, Any]) -> None:
    done = command(tmp_path, service)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Workspace: http")
    assert "me/carlt?nw=abc" in done.stdout
    (sent,) = [asked["variables"] for asked in StandIn.asked if "upsertView" in asked["query"]]
    assert (sent["entityName"], sent["projectName"], sent["type"]) == ("me", "carlt", "project-view")
    assert strings(json.loads(sent["spec"])) >= LOGGED


@pytest.mark.slow
def test_a_service_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    done = command(tmp_path, "http://127.0.0.1:9")
    assert done.returncode == 2
    assert "carlt.report: error: W&B did not take the workspace of me/carlt: " in done.stderr
    assert "Traceback" not in done.stderr
