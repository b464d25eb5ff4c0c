"""The jinja2 environment for chat templates, which come with the model and are not trusted.

jinja2's immutable sandbox keeps a template away from Python's internals and from changing its arguments. It does not
bound what a template computes; this one does, in three ways that complete each other:

1. Every value a template can build weighs at most WEIGHT_MAX, checked before an operation that could exceed it:
   operators, `~`, literals, blocks, and the string methods and filters that repeat their input. What stays is
   linear in its input, so that no single operation runs long inside the interpreter's C code.
2. Only the filters and string methods listed below work, those that chat templates use.
3. Time is bounded from outside (`deadline`): between two such operations a signal can always end the rendering.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from types import GeneratorType
from typing import Any, Final, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.engine.prompt.weight import INTEGER_BITS_MAX, TooLargeError, bounded, weight_of

_FILTER_NAMES: Final = """
    abs attr capitalize count d default dictsort e escape first float format indent int items join last length list
    lower map max min reject rejectattr replace reverse safe select selectattr sort string title tojson trim unique
    upper wordcount
"""
_STRING_METHOD_NAMES: Final = """
    capitalize count endswith find format index isalnum isalpha isdigit islower isspace isupper join lower lstrip
    partition removeprefix removesuffix replace rfind rpartition rsplit rstrip split splitlines startswith strip
    swapcase title upper
"""
_FILTERS: Final = frozenset(_FILTER_NAMES.split())
_STRING_METHODS: Final = frozenset(_STRING_METHOD_NAMES.split())
# A field width of four digits or more, or one that comes from an argument; a mapping key may stand before it.
_PERCENT_WIDTH: Final = re.compile(r"%(\([^)]*\))?[^a-zA-Z%]*(\*|\d{4,})")
_FORMAT_WIDTH: Final = re.compile(r"[:{][^{}]*(\{|\d{4,})")
_INDENT_MAX: Final = 64
_SEPARATOR_MAX: Final = 4
_MESSAGE_MAX: Final = 1000
_INTEGER_TEXT_MAX: Final = 256


class RaisedByTemplateError(TemplateError):
    """The template called `raise_exception`: it refuses these messages."""


class _GenerationExtension(Extension):
    """`{% generation %}` marks the model's own turns for training; here it means nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _BoundedCode(CodeGenerator):
    """Routes what the sandbox does not intercept by itself through the environment."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concatenated([")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("])")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._weighed(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._weighed(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._weighed(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _weighed(self, visit: Callable[[Any, Frame], None], node: nodes.Expr, frame: Frame) -> None:
        self.write("environment.weighed(")
        visit(node, frame)
        self.write(")")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Compiles and renders chat templates as the models' authors expect them, within bounds."""

    code_generator_class = _BoundedCode
    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self) -> None:
        # optimized=False: nothing of a template is computed while it compiles.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            optimized=False,
            extensions=[LoopControlExtension, _GenerationExtension],
        )
        self.filters = {
            name: function if name in _FILTERS else _unavailable(name) for name, function in self.filters.items()
        }
        self.filters |= {
            "tojson": _to_json,
            "int": self._bounded_int(self.filters["int"]),
            "replace": _replace_filter,
            "join": self._join_filter,
            "indent": self._bounded_indent(self.filters["indent"]),
            "format": self._format_filter,
        }
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name, None)
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    # What the generated code joins blocks, macros and the whole output with.
    def concat(self, parts: Iterable[str]) -> str:
        """`"".join`, bounded."""
        pieces: list[str] = []
        weight = 0
        for part in parts:
            weight = bounded(weight + len(part))
            pieces.append(part)
        return "".join(pieces)

    def concatenated(self, parts: list[object]) -> str:
        """The `~` operator."""
        bounded(sum(weight_of(part) for part in parts))
        return "".join(map(str, parts))

    def weighed(self, value: object) -> object:
        """A list, tuple or dict that the template writes down."""
        weight_of(value)
        return value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The operators that can make something larger than their operands."""
        if operator == "%" and isinstance(left, str):
            _check_percent_format(left, right)
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**":
            _check_power(left, right)
        else:
            bounded(weight_of(left) + weight_of(right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls of methods, macros and globals."""
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            _check_string_method(owner, __obj.__name__, args)
        elif isinstance(owner, int | float | complex | bytes):
            raise SecurityError(f"methods of {type(owner).__name__} are not available to chat templates")
        elif __obj is dict or isinstance(__obj, type):
            bounded(sum(weight_of(value) for value in (*args, *kwargs.values())))
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format`, with field widths below 1000."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        template, formatted = value.__self__, wrapped

        def checked(*args: Any, **kwargs: Any) -> str:
            if _FORMAT_WIDTH.search(template):
                raise SecurityError("a field width this large is not allowed")
            fields = template.count("{") * max((weight_of(each) for each in (*args, *kwargs.values())), default=0)
            bounded(weight_of(template) + fields)
            return formatted(*args, **kwargs)

        return checked

    def _join_filter(self, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            value = (self.getitem(each, attribute) for each in value)
        parts = list(value)
        _check_join(str(d), parts)
        return str(d).join(map(str, parts))

    def _format_filter(self, value: str, *args: Any, **kwargs: Any) -> str:
        _check_percent_format(value, kwargs or args)
        return str(value) % (kwargs or args)

    def _bounded_int(self, to_int: Callable[..., int]) -> Callable[..., int]:
        def checked(value: Any, default: int = 0, base: int = 10) -> int:
            too_long = isinstance(value, str) and len(value) > _INTEGER_TEXT_MAX
            return default if too_long else to_int(value, default, base)

        return checked

    def _bounded_indent(self, indent: Callable[..., str]) -> Callable[..., str]:
        def checked(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
            step = len(width) if isinstance(width, str) else width
            if step > _INDENT_MAX:
                raise SecurityError(f"indent takes a width of at most {_INDENT_MAX}")
            bounded(len(s) + (s.count("\n") + 1) * step)
            return indent(s, width, first, blank)

        return checked


def _unavailable(name: str) -> Callable[..., NoReturn]:
    """Stands in for a filter, so that a template which names it can still be used where it is not reached."""

    def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise SecurityError(f"the filter {name!r} is not available to chat templates")

    return refuse


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > INTEGER_BITS_MAX:
            raise TooLargeError
    elif isinstance(left, int):
        bounded(left * weight_of(right))
    elif isinstance(right, int):
        bounded(right * weight_of(left))


def _check_power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > INTEGER_BITS_MAX:
        raise TooLargeError


def _check_percent_format(template: str, values: Any) -> None:
    if _PERCENT_WIDTH.search(template):
        raise SecurityError("a field width this large is not allowed")
    bounded(weight_of(template) + template.count("%") * weight_of(values))


def _check_join(separator: str, parts: list[Any]) -> None:
    bounded(len(separator) * len(parts) + weight_of(parts))


def _check_replace(text: str, old: str, new: str) -> None:
    bounded(len(text) + text.count(old) * len(new))


def _check_string_method(text: str, name: str, args: tuple[Any, ...]) -> None:
    if name not in _STRING_METHODS:
        raise SecurityError(f"the string method {name!r} is not available to chat templates")
    if name == "replace" and len(args) >= 2 and all(isinstance(each, str) for each in args[:2]):
        _check_replace(text, args[0], args[1])
    elif name == "join" and args and not isinstance(args[0], str | list | tuple):
        raise SecurityError("join takes a list")
    elif name == "join" and args:
        _check_join(text, list(args[0]))


def _replace_filter(s: Any, old: str, new: str, count: int | None = None) -> str:
    text = str(s)
    _check_replace(text, str(old), str(new))
    return text.replace(str(old), str(new), -1 if count is None else count)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers defines it: jinja2's own escapes HTML characters. What `map` makes is a list."""
    if isinstance(value, GeneratorType):
        value = list(value)
    weight = weight_of(value)
    if separators is not None and any(len(separator) > _SEPARATOR_MAX for separator in separators):
        raise SecurityError(f"tojson takes separators of at most {_SEPARATOR_MAX} characters")
    if indent is not None:
        if indent > _INDENT_MAX:
            raise SecurityError(f"tojson takes an indent of at most {_INDENT_MAX}")
        bounded(weight * (1 + indent))
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: Any) -> NoReturn:
    raise RaisedByTemplateError(str(message)[:_MESSAGE_MAX].encode(errors="replace").decode())


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout[:256])
