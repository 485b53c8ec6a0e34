"""What was tagged so far, as guesses for what comes."""

import pytest

from nbutils.corpus import Document, Entity
from nbutils.taggers.copying.mentions import LONGEST, Mentions
from nbutils.taggers.lora import LoraTagger

FEVER, COUGH = Entity(0, 2, "d"), Entity(3, 5, "d")


def test_what_was_tagged_is_guessed_wherever_it_stands_again():
    mentions = Mentions()
    mentions.learn("発熱と咳嗽", [], [FEVER, COUGH])
    assert mentions.guess("咳嗽なし。発熱、発熱") == [Entity(0, 2, "d"), Entity(5, 7, "d"), Entity(8, 10, "d")]
    assert mentions.guess("頭痛") == mentions.guess("") == []


def test_the_longest_mention_is_guessed_and_none_overlaps_another():
    mentions = Mentions()
    mentions.learn("肺炎", [], [Entity(0, 2, "d")])
    mentions.learn("誤嚥性肺炎", [], [Entity(0, 5, "d")])
    assert mentions.guess("誤嚥性肺炎と肺炎") == [Entity(0, 5, "d"), Entity(6, 8, "d")]


def test_a_text_that_ends_within_a_longer_mention_is_not_overrun():
    mentions = Mentions()
    mentions.learn("発熱発作", [], [Entity(0, 4, "d")])
    mentions.learn("発熱", [], [FEVER])
    assert mentions.guess("発熱") == [FEVER]


def test_a_guess_that_was_wrong_as_often_as_right_is_given_up_until_it_is_tagged_again():
    mentions = Mentions()
    mentions.learn("発熱", [], [FEVER])
    guessed = mentions.guess("発熱なし")
    mentions.learn("発熱なし", guessed, [])
    assert guessed == [FEVER]
    assert mentions.guess("発熱") == []
    mentions.learn("発熱", [], [FEVER])
    assert mentions.guess("発熱") == [FEVER]


def test_of_two_labels_the_more_frequent_one_is_guessed():
    mentions = Mentions()
    for label in ("d", "a", "a"):
        mentions.learn("胃", mentions.guess("胃"), [Entity(0, 1, label)])
    assert mentions.guess("胃") == [Entity(0, 1, "a")]


def test_long_mentions_and_more_than_fit_are_not_remembered(monkeypatch):
    monkeypatch.setattr("nbutils.taggers.copying.mentions.MOST", 1)
    mentions = Mentions()
    mentions.learn("あ" * (LONGEST + 1), [], [Entity(0, LONGEST + 1, "d")])
    mentions.learn("発熱と咳嗽", [], [FEVER, COUGH])
    assert len(mentions.counts) == 1
    assert mentions.guess("発熱と咳嗽") == [FEVER]


@pytest.mark.parametrize("size", [1, 3])
def test_a_tagger_drafts_what_it_tagged_and_tags_the_same(tags_everywhere, monkeypatch, size):
    """The tagger sees one line again and again: all but the first batch take fewer passes, and nothing else changes."""
    tagger, passes = tags_everywhere(size)
    documents = [Document(f"note-{k}", "発熱と咳嗽あり。") for k in range(6)]
    with_guesses = tagger.predict(documents)
    n_with = len(passes)
    passes.clear()
    monkeypatch.setattr(Mentions, "guess", lambda self, text: [])
    assert [[e.key for e in p.entities] for p in tagger.predict(documents)] == [
        [e.key for e in p.entities] for p in with_guesses
    ]
    assert n_with < len(passes)


@pytest.fixture
def tags_everywhere():
    """A random model that tags much, and a list of its forward passes."""
    from copies import CHARACTERS, random_model

    from nbutils.taggers.settings import LoraSettings

    def make(size):
        for seed in range(50):
            model, passes = random_model(seed=seed), []
            tagger = LoraTagger(model, CHARACTERS, LoraSettings(model="none", decode_batch_size=size, max_length=512))
            if tagger.predict([Document("x", "発熱と咳嗽あり。")])[0].entities:
                model.get_decoder().register_forward_hook(lambda *_, seen=passes: seen.append(1))
                return tagger, passes
        raise AssertionError("no random model tags anything")

    return make
