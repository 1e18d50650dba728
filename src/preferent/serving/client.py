"""A reward server as a `Scorer`: requests in batches, several at once, tried again where that can help, answers in the order asked.

Legend: N exchanges.
"""

from __future__ import annotations

import json
import math
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np

from preferent.core.errors import ConfigError, MissingExtraError, PreferentError
from preferent.core.records import Exchange, Scores
from preferent.serving.dialects.dialect import AnswerError, Dialect

# A server that is starting, busy or being replaced: the same request may work in a moment.
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
EXCERPT = 300
LONGEST_WAIT = 30.0


class EndpointError(PreferentError, ConnectionError):
    """A server that did not answer as its shape says: names the address and shows the beginning of what came."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How a server is asked.

    batch: exchanges in a request (never more than the shape allows); concurrency: requests at once; timeout: seconds for one request to
    be answered; tries: how often a request is sent at most; backoff: seconds before the second try, doubled for each later one, up to 30
    (a Retry-After of the server is kept to instead, up to the same). headers: sent with every request.
    """

    batch: int = 16
    concurrency: int = 8
    timeout: float = 60.0
    tries: int = 5
    backoff: float = 0.5
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("batch", "concurrency", "tries"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; allowed: 1 or more")
        if not self.timeout > 0 or not self.backoff >= 0:
            raise ConfigError(f"timeout must be above 0 and backoff at least 0, found {self.timeout!r} and {self.backoff!r}")


class HttpScorer:
    """Rewards from a server that speaks `dialect` at `url` (without the route). `sleep` waits between tries.

    Raises MissingExtraError without httpx2, and EndpointError from `score`: for an answer that no further try would mend at once, for a
    server that is silent, busy or broken after `tries`. No reward is ever made up.
    """

    def __init__(
        self,
        url: str,
        dialect: Dialect,
        *,
        settings: HttpSettings | None = None,
        name: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        httpx = _httpx()
        self.url = url.rstrip("/") + dialect.path
        self.dialect = dialect
        self.settings = settings or HttpSettings()
        self.name = name or f"{dialect.name}+{self.url}"
        self._sleep = sleep
        # Loading the certificates takes longer than a request, so once; a plain connection needs none.
        self._tls = httpx.create_ssl_context() if self.url.lower().startswith("https") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def score(self, exchanges: Sequence[Exchange], *, progress: Callable[[int], None] | None = None) -> Scores:
        """Rewards in the order given, shape (N,); `progress` is called with the number of exchanges just answered."""
        exchanges = list(exchanges)
        reward_N = np.full(len(exchanges), np.nan)
        if not exchanges:
            return Scores(reward=reward_N)
        batches = self.dialect.batches(exchanges, min(self.settings.batch, self.dialect.most))
        httpx = _httpx()
        limits = httpx.Limits(max_connections=self.settings.concurrency)
        pool = ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix="rewards")
        stop = Event()
        headers = dict(self.settings.headers)
        with httpx.Client(timeout=self.settings.timeout, headers=headers, limits=limits, verify=self._tls) as client:
            try:
                waiting = {pool.submit(self._ask, client, [exchanges[row] for row in rows], stop): rows for rows in batches}
                for rows, rewards in _as_they_come(waiting):
                    reward_N[rows] = rewards
                    if progress is not None:
                        progress(len(rows))
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        return Scores(reward=reward_N)

    def _ask(self, client: Any, exchanges: Sequence[Exchange], stop: Event) -> list[float]:
        """The rewards of one request."""
        answer, text = self._answer(client, self.dialect.body(exchanges), stop)
        try:
            rewards = self.dialect.read(answer, len(exchanges))
        except AnswerError as error:
            raise EndpointError(f"{self.url}: {error}", hint=f"the answer begins: {_excerpt(text)}") from error
        for reward, exchange in zip(rewards, exchanges, strict=True):
            if not math.isfinite(reward):
                raise EndpointError(
                    f"{self.url}: the reward of {exchange.response[:60]!r} is {reward!r}", hint=f"the answer begins: {_excerpt(text)}"
                )
        return rewards

    def _answer(self, client: Any, body: dict[str, Any], stop: Event) -> tuple[Any, str]:
        """The JSON of the answer, and its text. Tries again after what may pass, until `stop`: another request has failed for good."""
        problem = ""
        for attempt in range(self.settings.tries):
            response, problem = self._post(client, body)
            if response is not None and response.status_code == 200:
                try:
                    return json.loads(response.text), response.text
                except ValueError:
                    problem = f"the answer is not JSON: {_excerpt(response.text)}"
            elif response is not None and response.status_code not in TRY_AGAIN:
                raise EndpointError(f"{self.url}: {problem}", hint=_advice(response.status_code))
            if stop.is_set():
                break
            if attempt + 1 < self.settings.tries:
                self._sleep(self._pause(attempt, response))
        raise EndpointError(f"{self.url}: {problem}", hint=f"tried {self.settings.tries} times; is the server up, and is this its address?")

    def _post(self, client: Any, body: dict[str, Any]) -> tuple[Any, str]:
        """(response, what is wrong with it); no response where none came."""
        httpx = _httpx()
        try:
            response = client.post(self.url, json=body)
        except httpx.TimeoutException:
            return None, f"no answer within {self.settings.timeout:g} s"
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise EndpointError(f"{self.url}: not an address: {error}") from error
        # Whatever a connection can break on, the second half of a body that never comes included.
        except httpx.HTTPError as error:
            return None, f"{type(error).__name__}: {error}"
        return response, f"HTTP {response.status_code}: {_excerpt(response.text)}"

    def _pause(self, attempt: int, response: Any) -> float:
        asked = "" if response is None else response.headers.get("retry-after", "")
        wanted = float(asked) if asked.isdigit() else self.settings.backoff * 2**attempt
        return min(wanted, LONGEST_WAIT)


def _as_they_come(waiting: dict[Future[list[float]], list[int]]) -> Any:
    """(places, rewards) of each request when it is answered; the first failure is raised at once and what has not begun is dropped."""
    open_ = set(waiting)
    while open_:
        done, open_ = wait(open_, timeout=0.5, return_when=FIRST_EXCEPTION)
        try:
            answered = [(waiting[future], future.result()) for future in done]
        except EndpointError:
            for future in open_:
                future.cancel()
            raise
        yield from answered


def _excerpt(text: str) -> str:
    """The beginning of a body, on one line."""
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= EXCERPT else flat[:EXCERPT] + "…")


def _advice(status: int) -> str | None:
    if status in (401, 403):
        return "the server wants a key: set PREFERENT_API_KEY, or give a header"
    if status == 404:
        return "no such route: the path of the URL chooses it, and a server may not offer it for its model"
    return None


def _httpx() -> Any:
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise MissingExtraError("httpx2", "http") from error
    return httpx2
