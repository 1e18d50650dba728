"""Any OpenAI-compatible endpoint (vLLM, SGLang, TGI, Ollama, hosted ones) as a policy or as a judge of steps.

Needs httpx2 (`pip install 'preferent[http]'`). A request is tried again after a refused connection, a timeout, a 429 or a 5xx, with
doubling pauses (or as long as `Retry-After` says); any other answer is an error at once, with what the server said. Keys are
read by the caller and stand in no message and no file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from preferent.core.errors import MissingExtraError, PreferentError
from preferent.core.records import Prompt, StepLabels

_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
CONTINUE = (
    "Solve the problem step by step, one step per line, and end with a line that states the final answer. When some steps are given "
    "already, go on from them: write only the steps that are missing, and do not repeat or comment on those given."
)
JUDGE = (
    "You check a solution step by step. The steps are numbered from 0. Find the first step that is wrong: a wrong calculation, a wrong "
    "deduction, or a claim that the problem contradicts. Think it through, then end with one line: 'First error: ' and the number of "
    "that step, or 'First error: -1' if every step is right."
)
_VERDICT = re.compile(r"first error:?\s*\**\s*\\?(?:boxed\{)?\s*(-?\d+)", re.IGNORECASE)


class EndpointError(PreferentError, ConnectionError):
    """An endpoint that cannot be reached, or that answers with something else than a completion."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask. url: up to and including `/v1`. timeout in seconds for each request; retries after the first try."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    temperature: float = 0.7
    max_tokens: int = 1024
    timeout: float = 120.0
    retries: int = 4
    sleep: Callable[[float], object] = field(default=time.sleep, repr=False)

    def chat(self, messages: Sequence[dict[str, str]], *, n: int = 1, temperature: float | None = None) -> list[str]:
        """n answers to a conversation. Asks once for all n, and again for those missing where a server gives fewer (some ignore `n`).

        Raises EndpointError, MissingExtraError.
        """
        texts: list[str] = []
        while len(texts) < n:
            found = self._choices(messages, n - len(texts), self.temperature if temperature is None else temperature)
            texts += found[: n - len(texts)]
        return texts

    def _choices(self, messages: Sequence[dict[str, str]], n: int, temperature: float) -> list[str]:
        body: dict[str, Any] = {"model": self.model, "messages": list(messages), "temperature": temperature, "max_tokens": self.max_tokens}
        if n > 1:
            body["n"] = n
        answer = self._post("/chat/completions", body)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        texts = [_content(choice) for choice in choices] if isinstance(choices, list) else []
        if not texts or any(text is None for text in texts):
            raise EndpointError(
                f"{self.url}: not a chat completion: {str(answer)[:200]!r}", hint="the URL must end where /chat/completions follows: .../v1"
            )
        return [text for text in texts if text is not None]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        httpx = _httpx()
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        pause = _PAUSE
        for left in range(self.retries, -1, -1):
            wait: float | None = None
            try:
                response = httpx.post(self.url.rstrip("/") + path, json=body, headers=headers, timeout=self.timeout)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise EndpointError(f"{self.url}: {error}", hint="a URL like http://127.0.0.1:8000/v1") from error
            except httpx.TransportError as error:
                failure = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            else:
                if response.is_success:
                    return _json(response, self.url)
                failure = f"HTTP {response.status_code}: {response.text[:200]!r}"
                if response.status_code != 429 and response.status_code < 500:
                    raise EndpointError(f"{self.url}: {failure}", hint=_HINTS.get(response.status_code))
                wait = _retry_after(response.headers.get("retry-after"))
            if left == 0:
                raise EndpointError(
                    f"{self.url}: gave up after {self.retries + 1} tries; the last said: {failure}", hint="is the server up?"
                )
            self.sleep(min(pause if wait is None else wait, _LONGEST_PAUSE))
            pause *= 2
        raise AssertionError("unreachable: the last try returns or raises")


_HINTS = {
    401: "the server wants a key: --api-key-env NAME names the environment variable that holds it",
    403: "the key may not use this model",
    404: "the URL must end where /chat/completions follows (.../v1), and the model must be one that the server has",
}


def endpoint_policy(endpoint: Endpoint, *, instruction: str = CONTINUE) -> Callable[[Prompt, Sequence[str], int], list[str]]:
    """A policy: the endpoint goes on from the steps given, which stand in the conversation as text to be continued."""

    def policy(prompt: Prompt, steps: Sequence[str], n: int) -> list[str]:
        messages = [{"role": "system", "content": instruction}, *({"role": turn.role, "content": turn.content} for turn in prompt)]
        if steps:
            given = "\n".join(steps)
            messages[-1] = {**messages[-1], "content": f"{messages[-1]['content']}\n\nSteps already done:\n{given}\n\nGo on from here."}
        return endpoint.chat(messages, n=n)

    return policy


def endpoint_judge(endpoint: Endpoint, *, instruction: str = JUDGE) -> Callable[[StepLabels], tuple[float | None, ...]]:
    """A judge: the endpoint names the first wrong step (in the manner of ProcessBench's critic models). At temperature 0.

    An answer without a verdict, or with a step that does not exist, gives no label to any step.
    """

    def judge(record: StepLabels) -> tuple[float | None, ...]:
        numbered = "\n".join(f"Step {t}: {step}" for t, step in enumerate(record.steps))
        asked = "\n".join(turn.content for turn in record.prompt)
        content = f"Problem:\n{asked}\n\nSolution:\n{numbered}"
        text = endpoint.chat([{"role": "system", "content": instruction}, {"role": "user", "content": content}], temperature=0.0)[0]
        return judged_labels(text, len(record.steps))

    return judge


def judged_labels(text: str, n_steps: int) -> tuple[float | None, ...]:
    """Labels from a judge's words: right before the step named last after "First error:", wrong there, null after it.

    All null where no step of the solution is named.
    """
    found = _VERDICT.findall(text)
    place = int(found[-1]) if found else None
    if place is None or not -1 <= place < n_steps:
        return (None,) * n_steps
    return tuple(1.0 if place < 0 or t < place else 0.0 if t == place else None for t in range(n_steps))


def _httpx() -> ModuleType:
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise MissingExtraError("httpx2", "http") from error
    return httpx2


def _content(choice: Any) -> str | None:
    message = choice.get("message") if isinstance(choice, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else None


def _json(response: Any, url: str) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise EndpointError(f"{url}: the answer is not JSON: {response.text[:200]!r}") from error


def _retry_after(value: str | None) -> float | None:
    """Seconds; a date is taken as no word."""
    return float(value) if value is not None and re.fullmatch(r"\d{1,6}(\.\d+)?", value) else None
