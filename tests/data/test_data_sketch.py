"""The sketch of training prompts: what it finds, what it costs, and that it holds no text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferent.core.errors import DataError
from preferent.core.ngrams import Hasher, below, member, sketch_prompts, words
from preferent.core.records import Message, Preference, user
from preferent.data.sketch import SKETCH, read_sketch, write_sketch

TEN = "one two three four five six seven eight nine ten"
PINNED_WHOLE = 18346283093796373093
PINNED_WINDOWS = [7181464738655488247, 9587610440658256151, 15159390393312065694]


def test_a_text_is_its_words():
    assert words("It's  DONE, über 3.5_x!") == ["it", "s", "done", "über", "3", "5", "x"]
    assert words("日本 go") == ["日", "本", "go"]
    assert words("?!") == ["?!"]
    assert words("  ") == []


def test_ten_words_have_three_windows_of_eight_and_seven_words_have_none():
    hasher = Hasher()
    assert len(hasher.windows(user(TEN))) == 3
    assert len(hasher.windows(user("one two three four five six seven"))) == 0
    # Turns are not joined: 10 words in each of two turns are 3 + 3 windows, of which the same ones count once.
    both = (Message(role="user", content=TEN), Message(role="assistant", content=TEN + " eleven"))
    assert len(hasher.windows(both)) == 4


def test_the_order_of_words_counts_and_spelling_does_not():
    hasher = Hasher()
    a, b = "a b c d e f g h", "b a c d e f g h"
    assert hasher.windows(user(a)) != hasher.windows(user(b))
    assert hasher.whole(user(a)) != hasher.whole(user(b))
    assert hasher.whole(user("A, b c; D e f g h?")) == hasher.whole(user(a))
    assert hasher.windows(user("A, b c; D e f g h?")) == hasher.windows(user(a))
    assert Hasher().windows(user(a)) == hasher.windows(user(a)), "an instance remembers words, not order"


def test_a_hash_is_the_same_in_every_process_and_version():
    """Pinned: a changed hash would make every sketch that is out there blind."""
    assert int(Hasher().whole(user(TEN))) == PINNED_WHOLE
    assert [int(h) for h in Hasher().windows(user(TEN))] == PINNED_WINDOWS


def test_the_sketch_is_a_set_of_prompts():
    prompts = [user(f"{TEN} number {k}") for k in range(50)]
    one, other = sketch_prompts(prompts), sketch_prompts([*reversed(prompts), *prompts])
    assert one.n_prompts == other.n_prompts == 50
    # 12 words have 5 windows; the first 3 and the one ending in "number" are shared by all, the last is each one's own: 4 + 50.
    assert one.n_windows == 54
    np.testing.assert_array_equal(one.window_H, other.window_H)
    np.testing.assert_array_equal(one.whole_H, other.whole_H)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(alphabet="abc ", min_size=1, max_size=40), min_size=1, max_size=30), st.integers(2, 20))
def test_a_bounded_sketch_keeps_exactly_the_hashes_below_its_bound(texts, limit):
    prompts = [user(text) for text in texts]
    full, small = sketch_prompts(prompts, window=2), sketch_prompts(prompts, window=2, max_hashes=limit)
    assert len(small.window_H) <= limit
    assert len(small.whole_H) <= limit
    np.testing.assert_array_equal(small.window_H, below(full.window_H, small.window_share))
    np.testing.assert_array_equal(small.whole_H, below(full.whole_H, small.whole_share))


def test_a_sampled_sketch_estimates_how_many_windows_there_were():
    rng = np.random.default_rng(0)
    prompts = [user(" ".join(map(str, rng.integers(0, 10**6, 30)))) for _ in range(400)]
    full, small = sketch_prompts(prompts), sketch_prompts(prompts, max_hashes=1000)
    assert full.n_windows == 400 * 23
    # 9200 windows at a share of 1/16: 575 kept, standard deviation 23, times 16: 372; five of them is under 0.21 of 9200.
    assert small.window_share in (1 / 16, 1 / 8, 1 / 32)
    assert abs(small.n_windows - 9200) < 0.21 * 9200


def test_member_is_set_membership():
    sorted_H = np.array([2, 5, 9], dtype=np.uint64)
    asked = np.array([0, 2, 3, 9, 10], dtype=np.uint64)
    assert member(asked, sorted_H).tolist() == [False, True, False, True, False]
    assert member(asked, np.zeros(0, dtype=np.uint64)).tolist() == [False] * 5
    assert member(np.zeros(0, dtype=np.uint64), sorted_H).tolist() == []


def preference(prompt):
    return Preference(prompt=user(prompt), response_a="yes", response_b="no", p_a=1.0)


def test_the_file_comes_back_as_it_was_and_holds_no_text(tmp_path):
    written = write_sketch(tmp_path, [preference(TEN), preference("zanzibar " + TEN)])
    assert written.n_prompts == 2
    for source in (tmp_path, tmp_path / SKETCH):
        again = read_sketch(source)
        assert (again.window, again.n_prompts, again.n_windows) == (8, 2, 4)
        np.testing.assert_array_equal(again.window_H, written.window_H)
        np.testing.assert_array_equal(again.whole_H, written.whole_H)
    assert b"zanzibar" not in (tmp_path / SKETCH).read_bytes()
    first = (tmp_path / SKETCH).read_bytes()
    write_sketch(tmp_path, [preference("zanzibar " + TEN), preference(TEN)])
    assert (tmp_path / SKETCH).read_bytes() == first, "the same prompts give the same bytes"


def test_no_prompts_are_a_sketch_too(tmp_path):
    write_sketch(tmp_path, [])
    assert read_sketch(tmp_path).n_prompts == 0


@pytest.mark.parametrize("damage", [b"", b"nothing like it", b"PK\x03\x04 half an archive"])
def test_a_damaged_file_is_named(tmp_path, damage):
    (tmp_path / SKETCH).write_bytes(damage)
    with pytest.raises(DataError, match=r"prompts\.sketch\.npz: not a readable sketch"):
        read_sketch(tmp_path)


def test_a_missing_file_says_who_writes_one(tmp_path):
    with pytest.raises(DataError, match="no sketch of training prompts") as caught:
        read_sketch(tmp_path)
    assert "preferent train" in (caught.value.hint or "")
