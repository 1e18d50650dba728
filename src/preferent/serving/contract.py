"""What a client of a wire shape owes its caller, checked against a real server on this machine that speaks the shape and fails on purpose.

from preferent.serving.contract import check_dialect
check_dialect(OpenRlhf())                    # raises AssertionError with the promise that was broken
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from preferent.core.records import Exchange, Message, user
from preferent.serving.client import EndpointError, HttpScorer, HttpSettings
from preferent.serving.dialects.dialect import Dialect

# What the server can be told to do instead of answering, one word for one request.
FAULTS = ("503", "429", "500", "400", "half", "garbage", "slow", "short", "nan", "text")
SLOW_SECONDS = 0.6


def worth(text: str) -> float:
    """A reward that every text has its own of, between -5 and 5."""
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "little") / 2**48 * 10 - 5


class Loopback:
    """A server at `url` that answers as `dialect` says. `faults`: what the next requests get instead; `requests`: (path, body) of all."""

    def __init__(self, dialect: Dialect, reward: Callable[[str], float] = worth) -> None:
        self.dialect = dialect
        self.reward = reward
        self.faults: deque[str] = deque()
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def request(self, path: str, body: dict[str, Any]) -> Iterator[str | None]:
        """Note a request and give what shall go wrong with it."""
        with self._lock:
            self.requests.append((path, body))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            fault = self.faults.popleft() if self.faults else None
        try:
            yield fault
        finally:
            with self._lock:
                self._now -= 1


def _handler(loopback: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet: two small ones would wait for each other.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with loopback.request(self.path, body) as fault:
                self._give(body, fault)

        def _give(self, body: dict[str, Any], fault: str | None) -> None:
            if fault is not None and fault.isdigit():
                self._send(int(fault), json.dumps({"error": f"fault {fault} on purpose"}).encode())
            elif fault == "garbage":
                self._send(200, b"<html>not what you asked for</html>")
            else:
                if fault == "slow":
                    time.sleep(SLOW_SECONDS)
                answer = json.dumps(_spoiled(loopback.dialect.speak(body, loopback.reward), fault)).encode()
                self._send(200, answer, half=fault == "half")

        def _send(self, status: int, data: bytes, *, half: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if half:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            try:
                self.wfile.write(data[: len(data) // 2] if half else data)
                self.wfile.flush()
            except (BrokenPipeError, ConnectionResetError):
                # The client has stopped waiting for a slow answer.
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Silent: the requests are in `Loopback.requests`."""
            _ = format, args

    return Handler


def _spoiled(answer: Any, fault: str | None) -> Any:
    """The answer with one entry too few, or with its first number replaced."""
    if fault == "short":
        lists = [answer] if isinstance(answer, list) else [value for value in answer.values() if isinstance(value, list)]
        for value in lists:
            del value[-1]
    elif fault in ("nan", "text"):
        _replace_first(answer, math.nan if fault == "nan" else "high")
    return answer


def _replace_first(value: Any, by: Any) -> bool:
    """Put `by` where the first float stands, depth first."""
    for key, inner in list(enumerate(value) if isinstance(value, list) else value.items()):
        if isinstance(inner, float):
            value[key] = by
            return True
        if isinstance(inner, list | dict) and _replace_first(inner, by):
            return True
    return False


def contract_exchanges() -> list[Exchange]:
    """A few prompts with several responses, of different lengths, in no order; one prompt of several turns."""
    turns = (Message(role="user", content="Hello"), Message(role="assistant", content="Hi"), Message(role="user", content="Tell me more"))
    prompts = [user("What is a cat?"), turns, user("Grüße, 日本!")]
    return [Exchange(prompt=prompts[n % 3], response=f"answer {n} " + "word " * (n * 7 % 23)) for n in range(20)]


def check_dialect(dialect: Dialect) -> tuple[str, ...]:
    """Check a shape with its own server half. Returns the promises that were kept; raises AssertionError with the one that was not."""
    exchanges = contract_exchanges()
    kept = []
    with Loopback(dialect) as server:
        for promise, check in _PROMISES.items():
            server.faults.clear()
            server.requests.clear()
            try:
                check(server, exchanges)
            except EndpointError as error:
                raise AssertionError(f"{dialect.name}: {promise}: {error}") from error
            kept.append(promise)
    return tuple(kept)


def _scorer(server: Loopback, pauses: list[float] | None = None, **settings: Any) -> HttpScorer:
    settings = {"batch": 4, "concurrency": 4, "timeout": 10.0, "tries": 3} | settings
    note = (lambda seconds: None) if pauses is None else pauses.append
    return HttpScorer(server.url, server.dialect, settings=HttpSettings(**settings), sleep=note)


def _rewards(server: Loopback, exchanges: Sequence[Exchange], **settings: Any) -> list[float]:
    return _scorer(server, **settings).score(exchanges).reward.tolist()


def _order(server: Loopback, exchanges: Sequence[Exchange]) -> None:
    whole = _rewards(server, exchanges)
    alone = [_rewards(server, [exchange])[0] for exchange in exchanges]
    assert whole == alone, "the rewards of a batch are not those of its exchanges alone, in their order"
    assert _rewards(server, exchanges[::-1], batch=7, concurrency=1) == whole[::-1], "rewards follow their exchange, not the request"
    assert len(set(whole)) == len(whole), "the shape loses what tells the exchanges apart"


def _batches(server: Loopback, exchanges: Sequence[Exchange]) -> None:
    parts = server.dialect.batches(exchanges, 3)
    assert sorted(row for part in parts for row in part) == list(range(len(exchanges))), "every exchange is asked about once"
    assert max(map(len, parts)) <= 3, "a request holds more than the batch"
    _rewards(server, exchanges, batch=3)
    expected = len(server.dialect.batches(exchanges, min(3, server.dialect.most)))
    assert len(server.requests) == expected, f"{len(server.requests)} requests for {expected} batches"
    assert all(path.startswith(server.dialect.path) for path, _ in server.requests)


def _empty(server: Loopback, exchanges: Sequence[Exchange]) -> None:
    assert _rewards(server, []) == []
    assert not server.requests, "nothing was asked about and a request was sent"


def _tried_again(server: Loopback, exchanges: Sequence[Exchange]) -> None:
    expected = _rewards(server, exchanges)
    for fault in ("503", "429", "500", "half", "garbage"):
        server.faults.append(fault)
        pauses: list[float] = []
        assert _scorer(server, pauses).score(exchanges).reward.tolist() == expected, f"after {fault} the rewards are others"
        assert len(pauses) == 1, f"after {fault} the client waited {len(pauses)} times before it tried again, not once"


def _gives_up(server: Loopback, exchanges: Sequence[Exchange]) -> None:
    for fault, words, requests in (("503", "HTTP 503", 3), ("garbage", "not JSON", 3), ("400", "fault 400 on purpose", 1)):
        server.requests.clear()
        server.faults.extend([fault] * 3)
        _refused(server, exchanges[:1], words)
        assert len(server.requests) == requests, f"{fault} was sent {len(server.requests)} times, not {requests}"
        server.faults.clear()


def _slow(server: Loopback, exchanges: Sequence[Exchange]) -> None:
    server.faults.append("slow")
    _refused(server, exchanges[:1], "no answer within 0.15 s", timeout=0.15, tries=1)


def _wrong_answers(server: Loopback, exchanges: Sequence[Exchange]) -> None:
    for fault, words in (("short", "entries for"), ("nan", "nan"), ("text", "not a number")):
        server.faults.append(fault)
        _refused(server, exchanges[:1], words)


def _refused(server: Loopback, exchanges: Sequence[Exchange], words: str, **settings: Any) -> None:
    message = None
    try:
        got = _rewards(server, exchanges, **settings)
    except EndpointError as error:
        message = str(error)
    else:
        raise AssertionError(f"{words!r} should have been refused, and gave {got}")
    assert server.url in message, f"the address is not in the message: {message}"
    assert words in message, f"{words!r} is not in the message: {message}"


_PROMISES: dict[str, Callable[[Loopback, Sequence[Exchange]], None]] = {
    "order": _order,
    "batches": _batches,
    "nothing asked, nothing sent": _empty,
    "what may pass is tried again": _tried_again,
    "what does not pass is an error": _gives_up,
    "a slow server is an error": _slow,
    "a wrong answer is refused": _wrong_answers,
}
