"""Every message of every refusal in the source says what to do next."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import appliance

ROOT: Final = Path(appliance.__file__).parent
REFUSALS: Final = ("RequestError", "Refusal")
# What sends its reader on: something to do, or what would have been right.
NEXT_STEP: Final = re.compile(
    r"\b(?:send|end with|switch off|sent with|ask|try|use|leave|tell|wait|read it|look at|name one|name another"
    r"|lists what|expected|needs?|needed|missing|takes|must|at least|at most|none of|only|are 0 to|has the tokens"
    r"|close its|allowed:|known models|routes start|required|is no time|regular|the next \w+ begins|stream: false)\b"
)
# Whose message is put together elsewhere, or is not ours: place -> why.
ELSEWHERE: Final = {
    "api/body.py:decode": "what a value should have been, from validation.explain",
    "api/envelope.py:from_http_exception": "one message a case; the last is of what aiohttp alone refuses",
    "api/kept_responses.py:list_input_items": "what a value should have been, from validation.explain",
    "api/mirror.py:_answer": "nobody gets the answer",
    "api/request_fields.py:free_form": "what a value should have been, from validation.explain",
    "api/field_names.py:error": "a chat's refusal under another name",
    "api/responses_input.py:_refuse": "one hint a field",
    "api/structured_output.py:_from_schema": "the fault in the schema",
    "engine/prompt/template.py:_refused": "of who calls it",
    "engine/constraint": "the fault in a schema, pattern or grammar, with its place",
    "models/backlog.py:crashed": "of the instance, which says it",
    "models/frames.py:check_encodable": "the fault in a value",
    "models/instance.py:_deliver": "the worker's own refusal",
    "models/upstream/refusal.py": "another server's refusal as it came",
    "security/access.py:_invalid": "INCORRECT_KEY",
    "security/jwt_tokens.py:_refusal": "INCORRECT_KEY",
    "security/principal_usage.py": "one sentence a limit",
}


class Refusals(ast.NodeVisitor):
    """(place, message) of each refusal in a file; what is filled in is `{}`."""

    def __init__(self, file: str, tree: ast.Module) -> None:
        self._file = file
        self._tree = tree
        self._functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        self.found: list[tuple[str, str | None]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._functions.append(node)
        self.generic_visit(node)
        self._functions.pop()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._functions.append(node)
        self.generic_visit(node)
        self._functions.pop()

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in REFUSALS and len(node.args) == 2:
            place = f"{self._file}:{self._functions[-1].name if self._functions else ''}"
            self.found += [(place, text) for text in self._texts(node.args[1])]

    def _texts(self, node: ast.expr) -> Iterator[str | None]:
        match node:
            case ast.Constant(value=str() as text):
                yield text
            case ast.JoinedStr(values=values):
                yield "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in values)
            case ast.Name(id=name) if self._functions and (given := self._assigned(name)):
                for value in given:
                    yield from self._texts(value)
            case ast.IfExp(body=one, orelse=other):
                yield from self._texts(one)
                yield from self._texts(other)
            case ast.Name() | ast.Subscript() | ast.Attribute() | ast.Call():
                yield None
            case _:
                raise AssertionError(ast.dump(node))

    def _assigned(self, name: str) -> list[ast.expr]:
        """In the function, else as a constant of the module."""
        found: list[ast.expr] = [
            node.value
            for node in ast.walk(self._functions[-1])
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        ]
        return found or [
            node.value
            for node in self._tree.body
            if isinstance(node, ast.AnnAssign)
            and node.value is not None
            and isinstance(node.target, ast.Name)
            and node.target.id == name
        ]


def refusals() -> list[tuple[str, str | None]]:
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        source = file.read_text()
        if any(f"{name}(" in source for name in REFUSALS):
            tree = ast.parse(source)
            visitor = Refusals(file.relative_to(ROOT).as_posix(), tree)
            visitor.visit(tree)
            found += visitor.found
    return found


def is_elsewhere(place: str) -> bool:
    return any(place.startswith(known) for known in ELSEWHERE)


def test_they_say_what_to_do_next() -> None:
    found = refusals()
    assert len(found) > 120
    mute = [
        row for row in found if not is_elsewhere(row[0]) and (row[1] is None or not NEXT_STEP.search(row[1].lower()))
    ]
    assert not mute
    assert all(any(place.startswith(known) for place, _ in found) for known in ELSEWHERE)
