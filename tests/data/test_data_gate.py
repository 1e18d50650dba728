"""The ledger accounts for every row; duplicates and contradictions merge as stated; the second pass streams what the first counted."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preferent.core.errors import DataError
from preferent.core.records import Preference, Ranking
from preferent.data.gate import Checked, check
from preferent.data.ledger import Ledger
from preferent.data.merge import clustered_share


def native(p_a: float, a: str = "x", b: str = "y", **more: Any) -> dict[str, Any]:
    return {"prompt": "p", "response_a": a, "response_b": b, "p_a": p_a} | more


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(tmp_path: Path, *rows: Any, **options: Any) -> tuple[Checked, list[Any]]:
    checked = check(write(tmp_path / "rows.jsonl", list(rows)), **options)
    records = list(checked.records())
    assert adds_up(checked.ledger)
    assert len(records) == checked.ledger.kept
    return checked, records


def adds_up(ledger: Ledger) -> bool:
    return ledger.kept + ledger.refused + ledger.merged == ledger.rows


def test_a_repeat_adds_its_weight(tmp_path: Path):
    checked, (record,) = run(tmp_path, native(0.7, weight=2, id="first"), native(0.7, weight=3, id="second"))
    assert (record.p_a, record.weight, record.id) == (0.7, 5.0, "first")
    assert (checked.ledger.merged_exact, checked.ledger.merged) == (1, 1)


def test_a_swapped_repeat_is_the_same_pair(tmp_path: Path):
    # 1 - 0.9 is not 0.1 to the last bit; the rows say the same nevertheless, and the first keeps its own number.
    checked, (record,) = run(tmp_path, native(0.1, "y", "x"), native(0.9))
    assert (record.response_a, record.p_a, record.weight) == ("y", 0.1, 2.0)
    assert checked.ledger.merged_exact == 1
    checked, (record,) = run(tmp_path, native(0.3), native(0.3, "y", "x"))
    assert (record.p_a, checked.ledger.ties, checked.ledger.contradictions) == (0.5, 1, 1)


def test_contradictory_rows_become_a_soft_label(tmp_path: Path):
    # (3 * 1.0 + 1 * 0.0) / 4 = 0.75; the second says b by its swap.
    checked, (record,) = run(tmp_path, native(1.0, weight=3), native(1.0, "y", "x", weight=1))
    assert (record.p_a, record.weight) == (0.75, 4.0)
    assert (checked.ledger.merged_contradictory, checked.ledger.contradictions, checked.ledger.ties) == (1, 1, 0)
    checked, (record,) = run(tmp_path, native(1.0), native(0.0), native(1.0), native(0.0))
    assert (record.p_a, checked.ledger.merged_contradictory, checked.ledger.contradictions, checked.ledger.ties) == (0.5, 3, 1, 1)


def test_agreeing_rows_are_averaged(tmp_path: Path):
    checked, (record,) = run(tmp_path, native(1.0), native(0.5))
    assert record.p_a == 0.75
    assert (checked.ledger.merged_agreeing, checked.ledger.contradictions) == (1, 0)


def test_votes_counts_and_margins_join_in_the_first_rows_orientation(tmp_path: Path):
    first = native(0.8, "y", "x", votes=[1, 1, 0.5], n_judgments=3, margin=1.0, weight=1)
    second = native(0.4, votes=[0, 0.75], n_judgments=2, margin=3.0, weight=3)
    # In the first row's orientation the second says 0.6: (0.8 + 3 * 0.6) / 4 = 0.65; margin (1 + 3 * 3) / 4 = 2.5.
    _, (record,) = run(tmp_path, first, second)
    assert record.votes == (1, 1, 0.5, 1.0, 0.25)
    assert (record.n_judgments, record.margin, record.p_a) == (5, pytest.approx(2.5), pytest.approx(0.65))
    # Rows that contradict each other agree on no margin.
    _, (record,) = run(tmp_path, first, native(0.9, margin=3.0))
    assert record.margin is None


def test_other_prompts_objectives_and_roles_do_not_merge(tmp_path: Path):
    rows = [
        native(1.0),
        native(1.0, prompt="p "),
        native(1.0, objective="tone"),
        native(1.0, prompt=[{"role": "system", "content": "s"}, {"role": "user", "content": "p"}]),
        # Texts that run together the same way: "x" + "yz" and "xy" + "z".
        native(1.0, "x", "yz"),
        native(1.0, "xy", "z"),
    ]
    checked, _ = run(tmp_path, *rows)
    assert checked.ledger.merged == 0


def test_rankings_merge_only_when_they_are_the_same(tmp_path: Path):
    same = {"prompt": "p", "responses": ["a", "b"], "scores": [1, 2]}
    turned = {"prompt": "p", "responses": ["b", "a"], "ranks": [10, 20]}
    other = {"prompt": "p", "responses": ["a", "b"], "scores": [2, 1]}
    checked, records = run(tmp_path, same, turned, other, native(1.0, "a", "b"))
    assert [type(record) for record in records] == [Ranking, Ranking, Preference]
    assert (records[0].weight, checked.ledger.merged_exact, checked.ledger.rankings) == (2.0, 1, 2)


def test_merged_records_stand_where_the_first_stood(tmp_path: Path):
    rows = [native(1.0, id="1"), native(0.5, "v", "w", id="2"), native(0.0, id="3"), native(0.5, "t", "u", id="4")]
    _, records = run(tmp_path, *rows)
    assert [record.id for record in records] == ["1", "2", "4"]


def test_records_can_be_read_again_and_a_changed_file_is_noticed(tmp_path: Path):
    checked, records = run(tmp_path, native(1.0), native(0.0), native(0.5, "v", "w"))
    assert list(checked.records()) == records
    write(tmp_path / "rows.jsonl", [native(0.123)])
    with pytest.raises(DataError, match="changed since it was checked"):
        list(checked.records())


def test_strict_and_empty(tmp_path: Path):
    with pytest.raises(DataError, match=r"1 of 2 rows refused:\n  .*rows\.jsonl:2: bad_p_a"):
        run(tmp_path, native(1.0), native(2.0), strict=True)
    run(tmp_path, native(1.0), native(0.0), strict=True)
    with pytest.raises(DataError, match=r"no row can be used, of 7(.|\n)*and 2 more"):
        run(tmp_path, *(native(2.0 + k) for k in range(7)))
    of_a_kind = r"no row can be used, of 8:\n.*:1: bad_p_a: .* 2\.0 \(and 6 rows like it\)\n.*:8: bad_p_a: .* 3\.0\n"
    with pytest.raises(DataError, match=of_a_kind):
        run(tmp_path, *[native(2.0)] * 7, native(3.0))
    (tmp_path / "blank.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="no row can be used, of 0"):
        check(tmp_path / "blank.jsonl")


def test_two_sources_are_one(tmp_path: Path):
    paths = [write(tmp_path / name, [native(p), native(3.0)]) for name, p in (("a", 1.0), ("b", 0.0))]
    checked = check(paths)
    assert (checked.ledger.rows, checked.ledger.kept, checked.ledger.contradictions) == (4, 1, 1)
    assert [refusal.where for refusal in checked.ledger.refusals] == [f"{path}:2" for path in paths]


def test_over_long_rows_are_counted_and_kept(tmp_path: Path):
    rows = [
        native(1.0),
        native(1.0, prompt="p" * 50),
        native(1.0, a="x" * 60),
        {"prompt": "p", "responses": ["a", "b" * 60], "ranks": [1, 2]},
    ]
    count = lambda exchange: sum(len(turn.content) for turn in exchange.prompt) + len(exchange.response)  # noqa: E731
    checked, records = run(tmp_path, *rows, count_tokens=count, max_length=40)
    assert len(records) == 4
    assert (checked.ledger.over_long, checked.ledger.response_truncated, checked.ledger.max_length) == (3, 2, 40)
    assert run(tmp_path, *rows)[0].ledger.over_long is None
    with pytest.raises(DataError, match="without max_length"):
        run(tmp_path, *rows, count_tokens=count)


def test_length_bias_counts_preferred_sides_only(tmp_path: Path):
    rows = [
        native(0.9, "long", "s", prompt="1"),  # longer
        native(0.1, "long", "s", prompt="2"),  # shorter
        native(0.2, "s", "long", prompt="3"),  # longer
        native(0.5, "long", "s", prompt="4"),  # tie: not counted
        native(0.9, "left", "diff", prompt="5"),  # one length: not counted
        # Merged: (0 + 2 * 1) / 3 > 0.5, so the longer a is preferred.
        native(0.0, "long", "s", prompt="6"),
        native(1.0, "long", "s", prompt="6", weight=2),
        # Pairs 3 of a ranking: (bbb > cc) longer, (bbb > a) longer, (cc, a) a tie.
        {"prompt": "7", "responses": ["a", "bbb", "cc"], "ranks": [2, 1, 2]},
    ]
    ledger = run(tmp_path, *rows)[0].ledger
    # 1 + 0 + 1 + 1 + 2 of 1 + 1 + 1 + 1 + 2.
    assert (ledger.longer_preferred.value, ledger.longer_preferred.n) == (pytest.approx(5 / 6), 6)


def test_clustered_share_is_wilson_when_clusters_are_single():
    # 60 of 100, one per cluster: n_eff = p(1-p)/v with v = p(1-p)/(n-1), so 99; Wilson at n = 99 by hand: [0.5018, 0.6905].
    hits = np.array([1.0] * 60 + [0.0] * 40)
    estimate = clustered_share(hits, np.ones(100), np.arange(100, dtype=np.uint64))
    assert (estimate.low, estimate.high) == (pytest.approx(0.5016, abs=5e-4), pytest.approx(0.6909, abs=5e-4))


def test_clustered_share_widens_with_clusters_and_covers_the_truth():
    rng = np.random.default_rng(0)
    covered = widened = 0
    for _ in range(300):
        p_C = rng.beta(3, 3, 60)
        hits = rng.binomial(20, p_C).astype(float)
        estimate = clustered_share(hits, np.full(60, 20.0), np.arange(60, dtype=np.uint64))
        covered += estimate.low <= 0.5 <= estimate.high
        widened += estimate.high - estimate.low > 2 * 1.96 * np.sqrt(0.25 / 1200)
    # 95 % of 300 is 285, with a standard deviation of 3.8.
    assert 274 <= covered <= 298
    assert widened == 300
    assert "one prompt" in clustered_share(np.ones(5), np.ones(5), np.zeros(5, dtype=np.uint64)).method


def test_inversions_sources_notes_and_json(tmp_path: Path):
    base = {"prompt": "q", "chosen": "x", "rejected": "y", "source": "uf"}
    rows = [
        base | {"score_chosen": 1, "score_rejected": 2},
        base | {"chosen": "z", "score_chosen": 2, "score_rejected": 1, "blob": "b" * 999},
    ]
    ledger = run(tmp_path, *rows, native(1.0), native(-1.0))[0].ledger
    assert (ledger.scored_pairs, ledger.score_inversions) == (2, 1)
    assert ledger.sources == {"uf": 2, "(none)": 1}
    assert ledger.formats == {"chosen_rejected": 2, "native": 1}
    assert ledger.notes == {"columns not read: blob": 1}
    row = json.loads(json.dumps(ledger.to_dict(), allow_nan=False))
    assert row["rows"] == row["kept"] + row["refused"] + row["merged"] == 4
    assert row["refusals"] == [{"where": f"{tmp_path / 'rows.jsonl'}:4", "reason": "bad_p_a", "detail": ledger.refusals[0].detail}]
    assert row["refused_by_reason"] == {"bad_p_a": 1}


def test_the_rendered_ledger_shows_twenty_and_says_how_many_more(tmp_path: Path):
    text = run(tmp_path, native(1.0), *[native(2.0)] * 25)[0].ledger.render()
    assert text.count("rows.jsonl:") == 20
    assert "and 5 more: see the JSON" in text
    assert "p_a is not a probability" in text


# ---- properties ----

TEXTS = st.sampled_from(["x", "yy", "zzz"])
PAIRS = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["p", "q"]),
        "response_a": TEXTS,
        "response_b": TEXTS,
        "p_a": st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
        "weight": st.sampled_from([1, 2, 0.5]),
        "votes": st.lists(st.sampled_from([0, 0.5, 1]), max_size=2),
    }
)
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def swapped(row: dict[str, Any]) -> dict[str, Any]:
    update = {
        "response_a": row["response_b"],
        "response_b": row["response_a"],
        "p_a": 1 - row["p_a"],
        "votes": [1 - v for v in row["votes"]],
    }
    return row | update


def canonical(records: list[Preference]) -> dict[Any, Any]:
    turned = [record if record.response_a < record.response_b else record.swap() for record in records]
    return {
        (record.prompt, record.response_a, record.response_b): (
            pytest.approx(record.p_a),
            pytest.approx(record.weight),
            sorted(record.votes),
        )
        for record in turned
    }


@QUIET
@given(rows=st.lists(PAIRS, min_size=1, max_size=12), seed=st.integers(0, 99))
def test_swapping_and_shuffling_rows_changes_nothing_that_counts(tmp_path: Path, rows: list[dict[str, Any]], seed: int):
    rows = [*rows, native(1.0)]
    rng = random.Random(seed)
    others = [swapped(row) if rng.random() < 0.5 else row for row in rows[:-1]] + rows[-1:]
    rng.shuffle(others)
    one, records = run(tmp_path, *rows)
    two, again = run(tmp_path, *others)
    assert canonical(again) == canonical(records)
    for name in (
        "kept",
        "refused",
        "merged_exact",
        "merged_agreeing",
        "merged_contradictory",
        "contradictions",
        "ties",
        "longer_preferred",
    ):
        assert one.ledger.to_dict()[name] == two.ledger.to_dict()[name], name


@QUIET
@given(rows=st.lists(PAIRS, min_size=1, max_size=8))
def test_giving_every_row_twice_doubles_the_weights(tmp_path: Path, rows: list[dict[str, Any]]):
    rows = [*rows, native(1.0)]
    once, twice = run(tmp_path, *rows)[1], run(tmp_path, *rows, *rows)[1]
    assert [(a.p_a, a.weight) for a in twice] == [(pytest.approx(b.p_a), pytest.approx(2 * b.weight)) for b in once]


# ---- fuzz: nothing crashes the gate, nothing leaves the ledger ----

GOOD = json.dumps(native(1.0, "the good row", "and its other side")).encode()
KEYS = st.sampled_from(
    [
        *["prompt", "response_a", "response_b", "p_a", "weight", "margin", "votes", "objective", "n_judgments", "source", "id", "meta"],
        *["chosen", "rejected", "strength", "annotations", "score_chosen", "score_rejected", "instruction", "completions", "responses"],
        *[
            "ranks",
            "scores",
            "candidates",
            "best",
            "losers",
            "role",
            "content",
            "text",
            "score",
            "response",
            "label",
            "correct",
            "annotator",
        ],
        *["fine-grained_score", "overall_score", "Rating", "question", "system"],
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.sampled_from(["user", "assistant", "x", "", " ", "\n\nHuman: a\n\nAssistant: b", "\ud800", "\x00", "Is this a long enough prompt?"]),
    st.text(max_size=5),
    st.just(10**400),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "bot"]), "content": LEAVES}), max_size=4)
LIKELY = st.one_of(
    st.fixed_dictionaries(
        {}, optional={"prompt": VALUES | MESSAGES, "chosen": VALUES | MESSAGES, "rejected": VALUES | MESSAGES, "strength": VALUES}
    ),
    st.fixed_dictionaries(
        {"prompt": st.just("q"), "responses": st.lists(LEAVES, max_size=4)}, optional={"scores": VALUES, "ranks": VALUES}
    ),
    st.fixed_dictionaries(
        {"prompt": MESSAGES, "candidates": st.lists(st.fixed_dictionaries({"text": LEAVES}, optional={"score": LEAVES, "correct": LEAVES}))}
    ),
    st.fixed_dictionaries(
        {"response_a": LEAVES, "response_b": LEAVES, "prompt": LEAVES, "p_a": LEAVES}, optional={"votes": VALUES, "meta": VALUES}
    ),
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=7) | LIKELY
LINES = st.one_of(
    OBJECTS.map(lambda row: json.dumps(row).encode()), VALUES.map(lambda row: json.dumps(row).encode()), st.binary(max_size=30)
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(parts=st.lists(LINES, max_size=6))
def test_any_lines_are_accounted_for(tmp_path: Path, parts: list[bytes]):
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(b"\n".join([GOOD, *parts]))
    checked = check(path)
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    assert checked.ledger.rows == len(lines)
    assert adds_up(checked.ledger)
    assert len(list(checked.records())) == checked.ledger.kept
    json.dumps(checked.ledger.to_dict(), allow_nan=False).encode()
    checked.ledger.render().encode()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=200),
    start=st.sampled_from([b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"PAR1", b"[", b"\xef\xbb\xbf"]),
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_any_bytes_are_read_or_refused(tmp_path: Path, name: str, data: bytes, start: bytes):
    path = tmp_path / name
    path.write_bytes(start + data)
    with pytest.raises(DataError):
        check(path)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0.01, 1), flip=st.none() | st.floats(0, 0.999), kind=st.sampled_from(["gzip", "zstd"]), seed=st.integers(0, 9))
def test_a_cut_or_damaged_stream_is_accounted_for(tmp_path: Path, cut: float, flip: float | None, kind: str, seed: int):
    rng = random.Random(seed)
    rows = [native(rng.random(), str(rng.random()), str(rng.random()), prompt=str(rng.random())) for _ in range(300)]
    text = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    data = bytearray(gzip.compress(text, mtime=0) if kind == "gzip" else zstandard.ZstdCompressor().compress(text))
    data = data[: max(1, int(len(data) * cut))]
    if flip is not None:
        data[int(len(data) * flip)] ^= 0x55
    path = tmp_path / "fuzz.gz"
    path.write_bytes(data)
    try:
        ledger = check(path).ledger
    except DataError:
        return
    assert adds_up(ledger)
    if cut < 0.95 and flip is None:
        assert ledger.refused_by_reason == {"broken_stream": 1}


# ---- the project's shared files ----

SHARED = Path(os.environ.get("PREFERENT_SHARED_DATA") or Path(__file__).parents[2] / "../shared/data")
# rows, kept, refused by reason, merged: rows and what is odd in them as the manifest of these files says.
EXPECTED: dict[str, tuple[int, int, dict[str, int], int]] = {
    "hh_harmless_test": (1800, 1793, {"empty_response": 4, "prompt_in_response": 3}, 0),
    "humour_pairs": (28118, 28118, {}, 0),
    "judgebench": (20, 20, {}, 0),
    "llmbar": (20, 20, {}, 0),
    "pandalm": (999, 837, {"empty_response": 54, "prompt_in_response": 2}, 106),
    "qa_feedback_dev": (3000, 3000, {}, 0),
    "rm_bench": (90, 90, {}, 0),
    "tulu_human_eval": (961, 956, {}, 5),
    "ukpconvarg1": (12050, 11795, {}, 255),
    "ultrafeedback_1200": (1195, 1193, {"empty_response": 2}, 0),
    "arena_bench_v1": (300, 300, {}, 0),
    "evouna_qa": (4958, 4958, {}, 0),
    "gsm8k_model_solutions": (1319, 1319, {}, 0),
    "rmb_bon": (20, 20, {}, 0),
    "tulu_bon16": (500, 497, {"too_few_responses": 3}, 0),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_shared_files_have_the_ledger_they_should(name: str):
    path = SHARED / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    ledger = check(path).ledger
    assert (ledger.rows, ledger.kept, ledger.refused_by_reason, ledger.merged) == EXPECTED[name]
    assert adds_up(ledger)


def test_shared_rating_and_step_files_are_refused_with_their_keys():
    path = SHARED / "xstest_completions.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with pytest.raises(DataError, match="unknown_shape: the row has 'id', 'prompt', 'response', 'ratings'"):
        check(path)
