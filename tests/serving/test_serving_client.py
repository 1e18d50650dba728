"""The HTTP client against a real server on this machine that speaks each wire shape and fails on purpose."""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
import pytest

from preferent.core.contracts import check_scorer
from preferent.core.errors import ConfigError, MissingExtraError
from preferent.core.records import Exchange, Message, user
from preferent.serving.client import EndpointError, HttpScorer, HttpSettings
from preferent.serving.contract import Loopback, check_dialect, contract_exchanges, worth
from preferent.serving.dialects import from_url, is_url
from preferent.serving.dialects.dialect import AnswerError, plain_text
from preferent.serving.dialects.openrlhf import OpenRlhf
from preferent.serving.dialects.tei import Tei
from preferent.serving.dialects.vllm import Vllm

CAT = Exchange(prompt=user("What is a cat?"), response="An animal.")
SHAPES = {
    "openrlhf": OpenRlhf(),
    "vllm classify": Vllm(),
    "vllm classify texts": Vllm(render=plain_text),
    "vllm pooling": Vllm(route="/pooling", model="m"),
    "vllm score": Vllm(route="/score"),
    "tei predict": Tei(),
    "tei predict texts": Tei(render=plain_text),
    "tei rerank": Tei(route="/rerank"),
}


@pytest.fixture
def httpx():
    return pytest.importorskip("httpx2", reason="the HTTP client needs httpx2 (pip install 'preferent[http]')")


asks_a_server = pytest.mark.usefixtures("httpx")


@asks_a_server
@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_keeps_the_contract(name):
    assert "order" in check_dialect(SHAPES[name])


@asks_a_server
@pytest.mark.parametrize("name", SHAPES)
def test_a_server_is_a_scorer(name):
    with Loopback(SHAPES[name]) as server:
        check_scorer(HttpScorer(server.url, SHAPES[name]), contract_exchanges()[:8])


@asks_a_server
def test_the_contract_catches_a_shape_that_mixes_up_its_answers():
    class Sorted(OpenRlhf):
        def read(self, answer, n):
            return sorted(super().read(answer, n))

    with pytest.raises(AssertionError, match=r"rewards|order"):
        check_dialect(Sorted())

    class Forgiving(OpenRlhf):
        def read(self, answer, n):
            return [float(np.nan_to_num(value)) if isinstance(value, float) else 0.0 for value in [*answer["rewards"], 0.0][:n]]

    with pytest.raises(AssertionError, match="should have been refused"):
        check_dialect(Forgiving())


# ---- what goes over the wire, word for word ----


def test_openrlhf_words():
    assert OpenRlhf().body([CAT]) == {"query": ["What is a cat?\n\nAn animal."], "prompts": ["What is a cat?"], "labels": [None]}
    assert OpenRlhf().read({"rewards": [0.5, [1.5]], "scores": [9, 9], "extra_logs": {}}, 2) == [0.5, 1.5]
    with pytest.raises(AnswerError, match="rewards has 1 entries for 2 exchanges"):
        OpenRlhf().read({"rewards": [1.0]}, 2)
    with pytest.raises(AnswerError, match="no 'rewards'"):
        OpenRlhf().read({"detail": "x"}, 1)


def test_vllm_words():
    messages = [{"role": "user", "content": "What is a cat?"}, {"role": "assistant", "content": "An animal."}]
    assert Vllm(model="rm").body([CAT]) == {"model": "rm", "messages": messages, "use_activation": False}
    assert Vllm(route="/pooling").body([CAT]) == {"messages": messages, "use_activation": False}
    asked = {"queries": ["What is a cat?"], "documents": ["An animal."], "use_activation": False}
    assert Vllm(route="/score").body([CAT]) == asked
    entry = {"index": 0, "label": "reward", "probs": [3.41], "num_classes": 1}
    assert Vllm().read({"object": "list", "data": [entry]}, 1) == [3.41]
    with pytest.raises(AnswerError, match="'probs' holds 2 numbers, not one reward"):
        Vllm().read({"data": [entry | {"probs": [0.2, 0.8]}]}, 1)
    with pytest.raises(AnswerError, match="a process reward model"):
        Vllm(route="/pooling").read({"data": [{"index": 0, "data": [[0.1], [0.2]]}]}, 1)
    with pytest.raises(AnswerError, match="indices of data are"):
        Vllm(route="/score").read({"data": [{"index": 0, "score": 1.0}, {"index": 0, "score": 2.0}]}, 2)


def test_tei_words():
    """Two texts in one flat list would be read as one pair, so each exchange is a list of its own."""
    assert Tei().body([CAT]) == {"inputs": [["What is a cat?", "An animal."]], "raw_scores": True, "truncate": False}
    assert Tei(render=plain_text).body([CAT, CAT])["inputs"] == [["What is a cat?\n\nAn animal."]] * 2
    assert Tei(route="/rerank").body([CAT, CAT])["texts"] == ["An animal."] * 2
    assert Tei().read([[{"score": 3.0, "label": "reward"}], [{"score": -1, "label": "reward"}]], 2) == [3.0, -1.0]
    assert Tei().read([{"score": 3.0, "label": "reward"}], 1) == [3.0]
    assert Tei(route="/rerank").read([{"index": 1, "score": 2.0}, {"index": 0, "score": 1.0}], 2) == [1.0, 2.0]
    with pytest.raises(AnswerError, match="2 labels for one text"):
        Tei().read([[{"score": 0.7, "label": "good"}, {"score": 0.3, "label": "bad"}]], 1)


def test_several_turns_as_text_are_named():
    prompt = (Message(role="system", content="Be kind."), Message(role="user", content="Hi"))
    assert plain_text(Exchange(prompt=prompt, response="Hello")) == "system: Be kind.\n\nuser: Hi\n\nHello"


def test_rerank_asks_about_one_prompt_at_a_time():
    exchanges = contract_exchanges()
    for part in Tei(route="/rerank").batches(exchanges, 4):
        assert len({exchanges[row].prompt for row in part}) == 1


# ---- how it is asked ----


@asks_a_server
def test_requests_run_side_by_side_and_no_more_than_allowed():
    def slowly(text):
        time.sleep(0.05)
        return worth(text)

    with Loopback(OpenRlhf(), slowly) as server:
        scorer = HttpScorer(server.url, OpenRlhf(), settings=HttpSettings(batch=1, concurrency=4))
        seen = []
        scorer.score(contract_exchanges(), progress=seen.append)
        assert sum(seen) == 20
        assert 2 <= server.most_at_once <= 4


@asks_a_server
def test_the_wait_doubles_and_a_retry_after_is_kept_to():
    pauses: list[float] = []
    with Loopback(OpenRlhf()) as server:
        server.faults.extend(["503", "503", "503"])
        HttpScorer(server.url, OpenRlhf(), settings=HttpSettings(backoff=0.5, tries=4), sleep=pauses.append).score([CAT])
    assert pauses == [0.5, 1.0, 2.0]


@asks_a_server
def test_one_failure_ends_the_others():
    """The first request is refused for good; the rest would be tried again for a long time and is not."""
    with Loopback(OpenRlhf()) as server:
        server.faults.extend(["400"] + ["503"] * 200)
        scorer = HttpScorer(server.url, OpenRlhf(), settings=HttpSettings(batch=1, concurrency=2, tries=100, backoff=0.01))
        started = time.monotonic()
        with pytest.raises(EndpointError, match="HTTP 400"):
            scorer.score(contract_exchanges())
        assert time.monotonic() - started < 5
        assert len(server.requests) < 100
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rewards")]


@asks_a_server
def test_headers_are_sent_and_a_missing_key_is_explained(monkeypatch):
    with Loopback(OpenRlhf()) as server:
        server.faults.append("401")
        with pytest.raises(EndpointError, match="HTTP 401") as caught:
            HttpScorer(server.url, OpenRlhf(), settings=HttpSettings(headers={"Authorization": "Bearer x"})).score([CAT])
        assert "PREFERENT_API_KEY" in (caught.value.hint or "")
        server.faults.append("404")
        with pytest.raises(EndpointError, match="no such route"):
            HttpScorer(server.url, OpenRlhf()).score([CAT])


@asks_a_server
def test_nobody_there():
    with Loopback(OpenRlhf()) as server:
        url = server.url
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:\d+/get_reward: ConnectError") as caught:
        HttpScorer(url, OpenRlhf(), settings=HttpSettings(tries=2), sleep=lambda seconds: None).score([CAT])
    assert "tried 2 times" in (caught.value.hint or "")
    with pytest.raises(EndpointError, match="not an address"):
        HttpScorer("http://h:port", OpenRlhf()).score([CAT])


def test_without_httpx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtraError, match="'httpx2' is not installed") as caught:
        HttpScorer("http://localhost", OpenRlhf())
    assert "preferent[http]" in (caught.value.hint or "")


def test_settings_are_checked():
    for broken in ({"batch": 0}, {"tries": 0}, {"timeout": 0.0}, {"backoff": -1.0}):
        with pytest.raises(ConfigError):
            HttpSettings(**broken)


# ---- URLs ----


@pytest.mark.parametrize(
    ("word", "url", "shape"),
    [
        ("openrlhf+http://h:5000", "http://h:5000", OpenRlhf()),
        ("http://h:5000/get_reward", "http://h:5000", OpenRlhf()),
        ("openrlhf+http://h:5000/my/rm", "http://h:5000/my/rm", OpenRlhf(path="")),
        ("vllm+https://h/v/pooling?model=a/b", "https://h/v", Vllm(route="/pooling", model="a/b")),
        ("vllm+http://h:8000", "http://h:8000", Vllm()),
        ("http://h:8000/classify", "http://h:8000", Vllm()),
        ("tei+http://h", "http://h", Tei()),
        ("http://h/rerank/", "http://h", Tei(route="/rerank")),
    ],
)
def test_urls(word, url, shape):
    assert is_url(word)
    assert from_url(word) == (url, shape)


def test_a_url_that_does_not_say_its_shape():
    assert not is_url("owner/name")
    with pytest.raises(ConfigError, match="does not say the shape"):
        from_url("http://h:8000")
    assert from_url("http://h:8000", dialect="vllm") == ("http://h:8000", Vllm())
    with pytest.raises(ConfigError, match="'grpc' is no shape of a reward server; allowed: openrlhf, vllm, tei"):
        from_url("grpc+http://h")
    with pytest.raises(ConfigError, match="says the shape 'tei', and 'vllm' was asked for"):
        from_url("tei+http://h", dialect="vllm")
    with pytest.raises(ConfigError, match="unknown options"):
        from_url("tei+http://h?model=x")


def test_the_client_is_light():
    """No torch, and httpx only when a server is asked."""
    import subprocess

    code = "import sys, preferent.serving.client, preferent.serving.dialects; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True, timeout=60)
    assert not {"torch", "transformers", "httpx2"} & {name.split(".")[0] for name in json.loads(done.stdout)}
