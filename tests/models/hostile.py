"""Model files and chat templates that mean harm, or are merely broken."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from tests.models.llama_file import write_llama
from tests.models.recite import build_recite

# Each must be refused or stopped while it renders; the worker must live on.
HOSTILE_TEMPLATES: Final = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a %}{% endfor %}{% endfor %}",
    "output without end": "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxx{% endfor %}{% endfor %}",
    "large range": "{% for a in range(10**9) %}{% endfor %}",
    "width behind a key": "{{ '%(a)3500000000d' % {'a': 1} }}",
    "width behind a key by filter": "{{ '%(a)3500000000d'|format(a=1) }}",
    "separators": "{{ [1, 2, 3]|tojson(separators=('x' * 10000000, ':')) }}",
    "surrogate in a refusal": "{{ raise_exception('\\ud800') }}",
    "class access": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "class access by filter": "{{ (''|attr('__class__')).__mro__ }}",
    "class access by format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "globals": "{{ raise_exception.__globals__.json }}",
    "long string": "{{ 'a' * 10**12 }}",
    "long list": "{% set x = [0] * 10**12 %}",
    "large power": "{{ 10 ** 100000000 }}",
    "large product": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "doubling by +": "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling by ~": "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling by block": (
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}{% endfor %}"
    ),
    "doubling by list": "{% set n = namespace(x=[]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}",
    "doubling by dict": (
        "{% set n = namespace(x={}) %}{% for i in range(99) %}{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}"
    ),
    "doubling by replace": (
        "{% set n = namespace(x='aa') %}{% for i in range(99) %}{% set n.x = n.x.replace('a', n.x) %}{% endfor %}"
    ),
    "doubling by filter": (
        "{% set n = namespace(x='aa') %}{% for i in range(99) %}{% set n.x = n.x|replace('a', n.x) %}{% endfor %}"
    ),
    "doubling by join": (
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x.join([n.x, n.x]) %}{% endfor %}"
    ),
    "doubling by format": (
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = '%s%s' % (n.x, n.x) %}{% endfor %}"
    ),
    "wide format": "{{ '%1000000000d' % 1 }}",
    "wide format by argument": "{{ '%*d' % (1000000000, 1) }}",
    "wide str.format": "{{ '{:1000000000}'.format(1) }}",
    "wide str.format by argument": "{{ '{:{}}'.format(1, 1000000000) }}",
    "wide format filter": "{{ '%1000000000d'|format(1) }}",
    "centred": "{{ 'a'.center(1000000000) }}",
    "justified": "{{ 'a'.ljust(1000000000) }}",
    "zero filled": "{{ 'a'.zfill(1000000000) }}",
    "many bytes": "{{ (1).to_bytes(1000000000, 'big') }}",
    "deep indent": "{{ ('a\n' * 100000)|indent(1000000) }}",
    "deep json": "{{ messages|tojson(indent=1000000000) }}",
    "centred by filter": "{{ 'a'|center(1000000000) }}",
    "filled batch": "{{ [1]|batch(1000000000, 0)|list }}",
    "rounded": "{{ 1|round(1000000000, 'ceil') }}",
    "sum of lists": "{{ (([[0]] * 1000000)|sum(start=[]))|length }}",
    "endless recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "many large variables": "{% set a = 'a' * 30000000 %}"
    + "".join(f"{{% set a{index} = a ~ '{index}' %}}" for index in range(2000)),
    "argument changed": "{{ messages.append(1) }}",
    "file": "{% include '/etc/passwd' %}",
    "refusal": "{{ raise_exception('roles must alternate') }}",
    "undefined": "{{ nothing.at.all }}",
}


def build_truncated(path: Path) -> None:
    """A recite model whose last half is missing."""
    build_recite(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def build_wrong_magic(path: Path) -> None:
    """A recite model that begins like a zip archive."""
    build_recite(path)
    data = path.read_bytes()
    path.write_bytes(b"PK\x03\x04" + data[4:])


def build_unknown_architecture(path: Path) -> None:
    """A well-formed file of an architecture that llama.cpp does not know."""
    build_recite(path, architecture="warpdrive")


def build_crashing(path: Path) -> None:
    """A header without fault on which llama.cpp aborts its process: the epsilon of its norms is no number."""
    write_llama(path, lambda name, shape: np.zeros(shape, np.float32), name="crash", layers=1, rms_epsilon=float("nan"))


def build_not_numbers(path: Path) -> None:
    """Weights that are no numbers: it loads, and computes nothing."""
    write_llama(path, lambda name, shape: np.full(shape, np.nan, np.float32), name="nan", layers=1)
