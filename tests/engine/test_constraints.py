"""Answers that must be of some form, through a real worker with random weights."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.types import Constraint, LogprobParams, SamplingParams, TextPrompt
from appliance.wire import Finished
from tests.engine.client import GREEDY, Answer, WorkerClient
from tests.engine.conftest import random_spec
from tests.models.vocabulary import ID

HOT = SamplingParams(temperature=1, seed=3)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def schema(value: Any, **changes: Any) -> Constraint:
    return Constraint(kind="json_schema", text=json.dumps(value), **changes)


def check_person(answer: Answer) -> None:
    assert answer.finished.reason == "stop"
    person = json.loads(answer.text)
    assert person.keys() == {"name", "age"} and len(person["name"]) <= 12 and 0 <= person["age"] <= 120


def test_eight_streams_keep_to_a_schema_beside_free_ones(random_model: WorkerClient) -> None:
    numbers = [
        random_model.add(
            f"abc{seed}",
            sampling=SamplingParams(temperature=1, seed=seed, top_k=0 if seed % 2 else 40),
            max_tokens=400,
            constraint=schema(PERSON),
        )
        for seed in range(8)
    ]
    free = random_model.add("abc", max_tokens=40)
    for answer in random_model.wait(*numbers):
        check_person(answer)
    assert random_model.wait(free)[0].finished.reason == "length"


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0),
        SamplingParams(temperature=0, repeat_penalty=1.3),
        SamplingParams(temperature=1, seed=1, mirostat=1),
        SamplingParams(temperature=1, seed=1, mirostat=2),
        SamplingParams(temperature=1, seed=1, top_n_sigma=1),
        SamplingParams(temperature=1, seed=1, top_k=1),
        SamplingParams(temperature=1, seed=1, ignore_eos=True),
        SamplingParams(temperature=1, seed=1, dry_multiplier=1, xtc_probability=0.5),
    ],
)
def test_every_way_of_drawing_keeps_to_it(random_model: WorkerClient, sampling: SamplingParams) -> None:
    check_person(random_model.ask("abc", sampling=sampling, max_tokens=400, constraint=schema(PERSON)))


def test_regex_choice_and_grammar(random_model: WorkerClient) -> None:
    def ask(kind: Any, text: str) -> str:
        answer = random_model.ask("abc", sampling=HOT, constraint=Constraint(kind=kind, text=text))
        assert answer.finished.reason == "stop"
        return answer.text

    assert re.fullmatch(r"[a-c]{3}/\d\d", ask("regex", r"[a-c]{3}/\d\d"))
    assert ask("choice", json.dumps(["yes", 'a "quoted"\nline', "é中"])) in ("yes", 'a "quoted"\nline', "é中")
    assert re.fullmatch(r"(ab|c){2,3}", ask("grammar", 'root ::= word{2,3}\nword ::= "ab" | "c"'))
    assert re.fullmatch(r"[0-9]{4}", ask("grammar", "start: /[0-9]{4}/"))


def test_a_limit_cuts_it_and_says_so(random_model: WorkerClient) -> None:
    answer = random_model.ask("abc", sampling=HOT, max_tokens=3, constraint=schema(PERSON))
    assert answer.finished.reason == "length" and answer.text.startswith("{")
    stopped = random_model.ask("abc", sampling=HOT, max_tokens=400, stop=['"age"'], constraint=schema(PERSON))
    assert stopped.finished.reason == "length" and '"age"' not in stopped.text


def test_reasoning_comes_first_where_the_prompt_has_begun_it(random_model: WorkerClient) -> None:
    thinks = ("<think>", "</think>")
    constraint = Constraint(kind="regex", text="[0-9]{3}", thinks=thinks)
    biased = SamplingParams(temperature=1, seed=1)
    direct = random_model.ask("abc", sampling=biased, constraint=constraint)
    assert re.fullmatch(r"[0-9]{3}", direct.text)
    begun = random_model.ask("abc<think>\n", sampling=biased, max_tokens=40, constraint=constraint)
    assert (begun.finished.reason, begun.finished.usage.completion_tokens) == ("length", 40)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (schema({"properties": {"a": {"not": {}}}}), "response_format.properties.a.not: "),
        (schema({"type": "string", "minLength": 3, "maxLength": 2}), "minLength (3) is greater"),
        (schema(False), "not"),
        (Constraint(kind="json_schema", text="{"), "no valid JSON"),
        (Constraint(kind="regex", text="(a", param="regex"), "regex: "),
        (Constraint(kind="grammar", text="root ::= other", param="grammar"), "other"),
    ],
)
def test_what_cannot_be_kept_is_refused(random_model: WorkerClient, constraint: Constraint, message: str) -> None:
    failed = random_model.ask("abc", constraint=constraint).failed
    assert failed.code == "invalid_request" and message in failed.message
    assert failed.param is not None and failed.param.startswith(constraint.param)


def test_a_ban_on_all_that_is_allowed_fails(random_model: WorkerClient) -> None:
    banned = SamplingParams(logit_bias={ID["a"]: -100, ID["<0x61>"]: -100})
    failed = random_model.ask("abc", sampling=banned, constraint=Constraint(kind="regex", text="a")).failed
    assert failed.code == "invalid_request" and "forbids" in failed.message


def test_log_probabilities_are_the_models_or_the_draws(random_model: WorkerClient) -> None:
    constraint = Constraint(kind="choice", text='["ab"]')
    model = random_model.ask("abc", sampling=HOT, constraint=constraint, logprobs=LogprobParams(top=2))
    draw = random_model.ask("abc", sampling=HOT, constraint=constraint, logprobs=LogprobParams(top=2, processed=True))
    assert model.text == draw.text == "ab"
    assert min(each.logprob for each in model.logprobs) < -0.5
    assert all(entry[1] in (b"a", b"b") for each in draw.logprobs for entry in each.top)


def test_an_abort_while_it_compiles_is_answered_once(random_model: WorkerClient) -> None:
    numbers = [
        random_model.add(TextPrompt(text="abc"), constraint=schema({"enum": list(range(n))})) for n in (20_000, 9)
    ]
    for number in numbers:
        random_model.abort(number)
    for answer in random_model.wait(*numbers):
        # It may have been computed already.
        assert isinstance(answer.end, Finished) or answer.failed.message == "aborted"


# Names long enough for answers of some hundred tokens.
LONG_PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 60, "maxLength": 60}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.slow
def test_an_answer_that_was_preempted_keeps_to_its_schema(random_gguf: Path) -> None:
    """Its matcher goes on where it was: the answers are those of a cache with room for all."""
    asked = [f"abc{chr(97 + number) * 30}" for number in range(6)]

    def add(client: WorkerClient, prompt: str, number: int) -> int:
        constraint = schema(LONG_PERSON) if number % 2 else None
        return client.add(prompt, max_tokens=110, sampling=GREEDY, constraint=constraint)

    with WorkerClient(fork=True) as roomy:
        roomy.load(random_spec(random_gguf, n_ctx=4096))
        expected = []
        for number, prompt in enumerate(asked):
            (answer,) = roomy.wait(add(roomy, prompt, number))
            expected.append((answer.text, answer.finished.reason))
    with WorkerClient(fork=True) as tight:
        tight.load(random_spec(random_gguf, n_ctx=256, parallel=4))
        numbers = [add(tight, prompt, number) for number, prompt in enumerate(asked)]
        answers = tight.wait(*numbers)
        assert tight.step.preemptions, "nothing was preempted: the test is too roomy"
    assert [(answer.text, answer.finished.reason) for answer in answers] == expected
    whole = [answer for answer in answers[1::2] if answer.finished.reason == "stop"]
    assert whole
    for answer in whole:
        assert json.loads(answer.text).keys() == {"name", "age"}


def _deep(depth: int) -> Any:
    value: Any = {"type": "string"}
    for _ in range(depth):
        value = {"type": "object", "properties": {"a": value}, "required": ["a"]}
    return value


def _patterns(*patterns: str) -> list[Constraint]:
    return [schema({"type": "string", "pattern": pattern}) for pattern in patterns]


HOSTILE: dict[str, list[Constraint]] = {
    "deep": [schema(_deep(60)), schema(_deep(90))],
    "large": [schema({"description": "x" * 2**20}), schema({"enum": list(range(30_000))})],
    "many": [
        schema({"properties": {f"p{n}": {"type": "string"} for n in range(2000)}}),
        schema({"anyOf": [{"properties": {f"p{n}": {}}, "required": [f"p{n}"]} for n in range(2000)]}),
        schema({"allOf": [{"type": "string", "pattern": f".*{char}.*"} for char in "abcdefghijkl"]}),
    ],
    "cycles": [
        schema({"$ref": "#"}),
        schema({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        schema({"$ref": "https://example.org/schema"}),
        schema({"$ref": "file:///etc/passwd"}),
    ],
    "numbers": [
        schema({"multipleOf": 999_983, "type": "integer"}),
        schema({"type": "number", "minimum": 1.123456789, "maximum": 1e300}),
        Constraint(kind="json_schema", text='{"type": "integer", "minimum": -1e999}'),
        schema({"type": "array", "items": {"type": "integer"}, "minItems": 10**9}),
        schema({"type": "string", "minLength": 10**9}),
    ],
    "patterns": _patterns(
        "^(a+)+$", "^(a|a)*b(a|b){200}$", "(.*a.{20})", "(a{1000}){1000}", "^(.*a.*b){30}$", "(?=a)b"
    ),
    "regexes": [
        Constraint(kind="regex", text=text)
        for text in ("(x+x+)+y", "(.{0,1000}){0,1000}", r"\p{L}{1,1000}", "(" * 3000, "[", "a\nb/c", "(?P<x>a)(?P=x)")
    ],
    "grammars": [
        Constraint(kind="grammar", text=text)
        for text in (
            'root ::= root root | "a"',
            'start: s\ns: s s s | s s | "a" | "aa"',
            "root ::= " + "(" * 5000,
            'root ::= "a',
            "start: %json {",
            'start: %json {"multipleOf": 999983}',
            "start: " + " ".join(f"r{n}" for n in range(9000)),
            "\x00",
        )
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_constraint_harms_nobody_else(random_model: WorkerClient, kind: str) -> None:
    """Each is refused, fails or is followed; a stream beside them goes on, and the worker lives."""
    free = random_model.add("abc", max_tokens=300)
    numbers = [random_model.add("abc", sampling=HOT, max_tokens=24, constraint=each) for each in HOSTILE[kind]]
    slowest, before = 0.0, time.monotonic()
    while random_model.answers[free].end is None:
        random_model.pump_once()
        slowest, before = max(slowest, time.monotonic() - before), time.monotonic()
    for answer in random_model.wait(*numbers):
        assert isinstance(answer.end, Finished) or answer.failed.code == "invalid_request"
    assert slowest < 30, "a stream stood still"
