"""The workloads are what docs/BENCHMARKS.md says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from bench.workload import Workload, chats, dify, dify_mixed, distinct


def test_dify_shares_one_system_prompt() -> None:
    questions = [question for client in dify().clients for question in client.questions]
    assert (len(dify().clients), len(questions)) == (16, 32)
    assert len({question.system for question in questions}) == 1
    assert {(len(question.system.split()), len(question.own.split())) for question in questions} == {(600, 165)}
    assert {question.tokens for question in questions} == {48}


def test_dify_mixed_has_two_applications_three_to_one() -> None:
    questions = [question for client in dify_mixed().clients for question in client.questions]
    assert sorted(Counter(question.system for question in questions).values()) == [8, 24]
    assert all(100 <= len(question.own.split()) <= 2000 for question in questions)


def test_the_same_in_every_run_and_nothing_twice() -> None:
    makers: list[Callable[[], Workload]] = [dify, dify_mixed, chats, lambda: distinct(8, 2, 110, 64)]
    for make in makers:
        questions = [question for client in make().clients for question in client.questions]
        assert make() == make()
        assert len({question.own for question in questions}) == len(questions)


def test_another_salt_gives_other_texts() -> None:
    makers: list[Callable[[str], Workload]] = [
        lambda salt: chats(salt=salt),
        lambda salt: distinct(8, 1, 110, 64, salt),
    ]
    for make in makers:
        owns = [{q.own for client in make(salt).clients for q in client.questions} for salt in ("1", "2")]
        assert not owns[0] & owns[1]
