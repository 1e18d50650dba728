"""From a word to a scorer: every form, and a word that is nothing fails at once."""

from __future__ import annotations

import json
import socket
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from preferent.cli import scorers
from preferent.cli.callables import CallableScorer
from preferent.cli.main import preferent
from preferent.cli.scorers import WithProgress, load_scorer
from preferent.core.contracts import check_scorer
from preferent.core.errors import ConfigError, DataError, ModelError
from preferent.core.records import Exchange, Message, user
from preferent.core.scorer import FakeScorer

EXCHANGES = [Exchange(prompt=user(f"p{n}"), response="x" * n) for n in (3, 1, 2)]

MODULE = """
from preferent.core.scorer import FakeScorer

def pairs(rows):
    return [len(prompt) * 100 + len(response) for prompt, response in rows]

def whole(exchanges):
    return [float(len(exchange.response)) for exchange in exchanges]

scorer = FakeScorer(lambda exchange: 7.0, name="seven")
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_rewards_x1.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield "my_rewards_x1"
    sys.modules.pop("my_rewards_x1", None)


def test_length():
    scorer, temperature = load_scorer("length")
    assert (scorer.name, temperature) == ("length", 1.0)


def test_a_function_of_the_working_directory(module):
    before = list(sys.path)
    scorer, _ = load_scorer(f"{module}:pairs")
    assert scorer.score(EXCHANGES).reward.tolist() == [203, 201, 202]
    check_scorer(scorer, EXCHANGES)
    assert load_scorer(f"{module}:whole")[0].score(EXCHANGES).reward.tolist() == [3, 1, 2]
    assert load_scorer(f"{module}:scorer")[0].score(EXCHANGES).reward.tolist() == [7, 7, 7]
    assert sys.path == before


def test_functions_that_cannot_be_used(module):
    for word, message in (
        (f"{module}:nothing", "has no attribute 'nothing'"),
        ("no_such_module_x:f", "No module named 'no_such_module_x'"),
        (f"{module}:number", "is int, not a function"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_scorer(word)


def test_what_a_function_may_give_back():
    assert CallableScorer(lambda rows: np.ones(len(rows)), name="f").score(EXCHANGES).reward.tolist() == [1, 1, 1]
    assert len(CallableScorer(lambda rows: 1 / 0, name="f").score([])) == 0
    for answer, error, message in (
        ([1.0], ModelError, "3 entries were answered with rewards of shape"),
        (["a", "b", "c"], ModelError, "not one number for each entry"),
        (None, ModelError, "the answer is NoneType"),
        ([1.0, float("nan"), 2.0], DataError, "the reward of 'x' is"),
    ):
        with pytest.raises(error, match=message):
            CallableScorer(lambda rows, answer=answer: answer, name="f").score(EXCHANGES)


def test_a_prompt_of_several_turns_as_text():
    prompt = (Message(role="user", content="a"), Message(role="assistant", content="b"), Message(role="user", content="c"))
    seen = []
    CallableScorer(lambda rows: seen.extend(rows) or [0.0], name="f").score([Exchange(prompt=prompt, response="d")])
    assert seen == [("user: a\n\nassistant: b\n\nuser: c", "d")]


def test_a_server(monkeypatch):
    pytest.importorskip("httpx2")
    from preferent.serving.contract import Loopback, worth
    from preferent.serving.dialects.openrlhf import OpenRlhf

    monkeypatch.setenv("PREFERENT_API_KEY", "secret")
    with Loopback(OpenRlhf()) as server:
        for word, dialect in ((f"openrlhf+{server.url}", None), (server.url, "openrlhf"), (f"{server.url}/get_reward", None)):
            scorer, temperature = load_scorer(word, dialect=dialect)
            assert temperature == 1.0
            assert scorer.score(EXCHANGES[:1]).reward.tolist() == [worth("p3\n\nxxx")]
    with pytest.raises(ConfigError, match="does not say the shape"):
        load_scorer("http://localhost:1")
    with pytest.raises(ConfigError, match="--dialect openrlhf is for a server"):
        load_scorer("owner/name", dialect="openrlhf")


# ---- a word that is nothing ----


@pytest.fixture
def no_network(monkeypatch):
    """Switched on, as far as huggingface_hub knows, and nobody there."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(scorers, "_reachable", lambda endpoint: False)


@pytest.mark.parametrize("word", ["nothere", "owner/nothere"])
def test_without_a_network_it_fails_at_once(word, no_network):
    started = time.monotonic()
    with pytest.raises(ModelError, match=rf"'{word}': no such folder, not in the local cache, and https://\S+ cannot be reached") as caught:
        load_scorer(word)
    assert time.monotonic() - started < 10, "importing huggingface_hub, and no waiting"
    assert "vllm+http" in (caught.value.hint or "")


def test_switched_off_says_so():
    """The test session sets HF_HUB_OFFLINE."""
    with pytest.raises(ModelError, match=r"the hub is switched off \(HF_HUB_OFFLINE\)"):
        load_scorer("owner/nothere")


@pytest.mark.parametrize("word", ["./nothere", "/no/such/folder", "~/nothere_x", "a/b/c", "what is this", "a..b/c"])
def test_what_can_be_no_hub_id_is_no_folder(word):
    with pytest.raises(ModelError, match="no such folder"):
        load_scorer(word)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="is a file; a model is a folder"):
        load_scorer(str(tmp_path / "x.bin"))


def test_a_hub_id_in_the_cache_needs_no_network(monkeypatch, tmp_path, no_network):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, name: str(tmp_path / name))
    scorers.refuse_unreachable("owner/name")


@pytest.mark.parametrize(
    "words", [["check", "x.jsonl"], ["train", "x.jsonl", "-o", "out"], ["triage", "x.jsonl", "-o", "o", "--folds", "2"]]
)
def test_a_base_that_is_nowhere_is_named_before_anything_is_read(words, tmp_path, monkeypatch, no_network):
    monkeypatch.chdir(tmp_path)
    row = {"prompt": "p", "chosen": "yes", "rejected": "no"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    result = CliRunner().invoke(preferent, [*words, "--base", "nothere"])
    assert isinstance(result.exception, ModelError)
    assert "'minilm' (offline), 'tiny', a folder" in str(result.exception)


def test_a_hub_that_answers_is_asked(monkeypatch):
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        scorers.refuse_unreachable("owner/name")
        url = constants.ENDPOINT
    assert not scorers._reachable(url)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    assert scorers._reachable(url), "behind a proxy only a request can tell"


def test_progress_goes_to_scorers_that_take_it():
    class Slabs(FakeScorer):
        def score(self, exchanges, *, progress=print):
            for _ in exchanges:
                progress(1)
            return super().score(exchanges)

    for scorer, calls in ((Slabs(lambda e: 1.0), [1, 1, 1]), (FakeScorer(lambda e: 1.0), [3])):
        seen = []
        WithProgress(scorer, seen.append).score(EXCHANGES)
        assert seen == calls
