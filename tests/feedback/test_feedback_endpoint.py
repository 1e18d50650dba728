"""An endpoint as policy and judge, against a real server on the loopback: what is asked, what is tried again, what is an error."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx2", reason="the http extra is not installed")

from preferent.cli.main import main
from preferent.core.errors import MissingExtraError
from preferent.core.records import Message, StepLabels, user
from preferent.feedback.endpoint import Endpoint, EndpointError, endpoint_judge, endpoint_policy, judged_labels


class Server:
    """Answers chat completions from a list of (status, body or texts, headers); the last one again and again. Keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((self.path, body, dict(self.headers)))
                status, answer, headers = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                if isinstance(answer, list):
                    answer = {"choices": [{"message": {"role": "assistant", "content": text}} for text in answer]}
                raw = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: Any) -> None:
                return None

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def says(self, *answers: Any) -> None:
        self.answers = [answer if isinstance(answer, tuple) else (200, answer, {}) for answer in answers]

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


def endpoint(server: Server, **given: Any) -> tuple[Endpoint, list[float]]:
    pauses: list[float] = []
    return Endpoint(server.url, "tiny", sleep=pauses.append, timeout=5.0, **given), pauses


def test_a_policy_asks_once_for_all_and_gives_the_steps_so_far(server):
    server.says(["one", "two", "three"])
    policy = endpoint_policy(endpoint(server, key="secret", temperature=0.9)[0])
    prompt = (Message(role="system", content="Be brief."), *user("How many?"))
    assert policy(prompt, ("Step a.", "Step b."), 3) == ["one", "two", "three"]
    ((path, body, headers),) = server.asked
    assert path == "/v1/chat/completions"
    assert (body["model"], body["n"], body["temperature"]) == ("tiny", 3, 0.9)
    assert headers["Authorization"] == "Bearer secret"
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["system", "system", "user"]
    assert body["messages"][-1]["content"].startswith("How many?")
    assert "Step a.\nStep b." in body["messages"][-1]["content"]


def test_a_server_that_ignores_n_is_asked_again_until_all_are_there(server):
    server.says(["one"], ["two"], ["three", "four"])
    assert endpoint_policy(endpoint(server)[0])(user("q"), (), 3) == ["one", "two", "three"]
    assert [body.get("n") for _, body, _ in server.asked] == [3, 2, None]


def test_what_passes_is_tried_again_with_pauses(server):
    server.says((503, "busy", {}), (429, "slow down", {"Retry-After": "7"}), (500, "oh", {}), ["fine"])
    asked, pauses = endpoint(server)
    assert asked.chat([{"role": "user", "content": "q"}]) == ["fine"]
    assert pauses == [0.5, 7.0, 2.0]


def test_it_gives_up_and_says_what_the_server_said(server):
    server.says((503, "no more memory", {}))
    asked, pauses = endpoint(server, retries=2)
    with pytest.raises(EndpointError, match=r"gave up after 3 tries.*HTTP 503.*no more memory"):
        asked.chat([{"role": "user", "content": "q"}])
    assert (len(server.asked), pauses) == (3, [0.5, 1.0])


@pytest.mark.parametrize(
    ("answer", "words", "hint"),
    [
        ((401, "who are you", {}), "HTTP 401", "--api-key-env"),
        ((404, "nothing here", {}), "HTTP 404", "/chat/completions"),
        ((200, "<html>", {}), "not JSON", None),
        ((200, {"error": "x"}, {}), "not a chat completion", "/v1"),
        ((200, {"choices": [{"message": {"content": None}}]}, {}), "not a chat completion", "/v1"),
    ],
)
def test_other_answers_are_errors_at_once(server, answer, words, hint):
    server.says(answer)
    with pytest.raises(EndpointError, match=words) as caught:
        endpoint(server, key="top-secret")[0].chat([{"role": "user", "content": "q"}])
    assert len(server.asked) == 1
    assert hint is None or hint in (caught.value.hint or "")
    assert "top-secret" not in str(caught.value) + repr(endpoint(server, key="top-secret")[0])


def test_nobody_there_and_no_url(server):
    url = server.url
    server.says(["x"])
    gone = Endpoint("http://127.0.0.1:9/v1", "m", retries=1, timeout=1.0, sleep=lambda _: None)
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9/v1: gave up after 2 tries.*ConnectError"):
        gone.chat([{"role": "user", "content": "q"}])
    with pytest.raises(EndpointError, match="not-a-url"):
        Endpoint("not-a-url", "m", sleep=lambda _: None).chat([{"role": "user", "content": "q"}])
    assert url.startswith("http://127")


def test_a_server_that_does_not_answer_in_time(server):
    release = threading.Event()
    server.says(["late"])
    original = server.http.RequestHandlerClass.do_POST  # type: ignore[attr-defined]

    def slow(handler: Any) -> None:
        release.wait(5.0)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            original(handler)

    server.http.RequestHandlerClass.do_POST = slow  # type: ignore[attr-defined]
    try:
        with pytest.raises(EndpointError, match="ReadTimeout"):
            Endpoint(server.url, "m", timeout=0.2, retries=0).chat([{"role": "user", "content": "q"}])
    finally:
        release.set()


def test_a_judge_sees_numbered_steps_and_names_the_first_error(server):
    server.says(["Step 1 adds wrongly.\nFirst error: 1"])
    record = StepLabels(prompt=user("How many?"), steps=("3 + 4 = 7", "7 + 1 = 9", "so 9"), labels=(None,) * 3)
    assert endpoint_judge(endpoint(server)[0])(record) == (1.0, 0.0, None)
    body = server.asked[0][1]
    assert body["temperature"] == 0.0
    assert "Step 0: 3 + 4 = 7\nStep 1: 7 + 1 = 9" in body["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("First error: -1", (1.0, 1.0)),
        ("I first thought first error: 1, but **First error: 0**", (0.0, None)),
        (r"First error: \boxed{1}", (1.0, 0.0)),
        ("First error: 2", (None, None)),
        ("All is well.", (None, None)),
    ],
)
def test_verdicts(text, labels):
    assert judged_labels(text, 2) == labels


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtraError, match="httpx2") as caught:
        Endpoint("http://127.0.0.1:9/v1", "m").chat([{"role": "user", "content": "q"}])
    assert caught.value.hint == "pip install 'preferent[http]'"


def test_the_command_labels_a_file_by_an_endpoint_and_keeps_no_key(server, tmp_path, capsys, monkeypatch):
    """Four continuations a step, two of them right: a rate of one half after the first step; the judge agrees that all is well."""
    monkeypatch.setenv("MY_KEY", "top-secret")
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    row = {"problem": "How many?", "steps": ["3 + 4 = 7", "#### 7"], "first_error": -1, "meta": {"answer": "7"}}
    source.write_text(json.dumps(row) + "\n", encoding="utf-8")
    server.says(["#### 7", "so #### 8", "#### 7", "#### 9"])
    words = ["label-steps", str(source), "-o", str(out), "--endpoint", server.url, "--model", "tiny", "--api-key-env", "MY_KEY"]
    assert main([*words, "--rollouts", "4"]) == 0
    labelled = json.loads(out.read_text(encoding="utf-8"))
    assert labelled["labels"] == [0.5, 1.0]
    assert labelled["meta"]["auto_labels"]["model"] == "tiny"
    server.says(["#### 7", "#### 7", "#### 7", "#### 7"], ["First error: -1"])
    assert main([*words, "--rollouts", "4", "--threshold", "0.4", "--judge", "endpoint", "--force"]) == 0
    labelled = json.loads(out.read_text(encoding="utf-8"))
    assert labelled["labels"] == [1.0, 1.0]
    assert labelled["meta"]["auto_labels"]["calls"] == 5
    assert all(headers["Authorization"] == "Bearer top-secret" for _, _, headers in server.asked)
    assert "top-secret" not in "".join(Path(path).read_text(encoding="utf-8") for path in tmp_path.iterdir()) + capsys.readouterr().err
