"""One YAML file as plain data that still knows its lines.

Mapping keys are folded from kebab-case to snake_case, except where they are names and no keys of ours. Duplicate
keys, aliases and non-text keys are refused: a configuration file must say what it seems to say.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import yaml

from appliance.errors import ConfigError

FILE_BYTES_MAX: Final = 4 * 2**20
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlSource:
    """`data`: the file's content. Paths into it are written `models[0].n_ctx`; "" is the whole file.

    verbatim: paths of mappings whose keys stay as they are written; `*` stands for any text.
    """

    def __init__(self, path: Path | str, text: str, verbatim: Collection[str] = ()) -> None:
        self.path = path
        self._verbatim = verbatim
        self._lines: dict[str, int] = {"": 1}
        self._written: dict[str, str] = {}
        try:
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_LOADER)):
                raise ConfigError("anchors and aliases are not used here; write the value out", path=path)
            root = yaml.compose(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = None if mark is None else mark.line + 1
            raise ConfigError(f"not valid YAML: {error.problem or error}", path=path, line=line) from error
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"not valid YAML: {error}", path=path) from error
        self._constructor = yaml.SafeLoader("")
        self.data: Any = {} if root is None else self._build(root, "")
        if not isinstance(self.data, dict):
            raise ConfigError("the file must be a mapping of keys to values", path=path, line=1)

    @classmethod
    def read(cls, path: Path, verbatim: Collection[str] = ()) -> YamlSource:
        """Reads and parses a file of at most FILE_BYTES_MAX. Raises ConfigError."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                    raise ConfigError(f"can be changed by every user; `chmod o-w {path}`", path=path)
                raw = file.read(FILE_BYTES_MAX + 1)
            text = raw.decode("utf-8")
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", path=path) from error
        except UnicodeDecodeError as error:
            raise ConfigError("is not UTF-8 text", path=path, line=raw[: error.start].count(b"\n") + 1) from error
        if len(raw) > FILE_BYTES_MAX:
            raise ConfigError(f"is larger than {FILE_BYTES_MAX} bytes", path=path)
        return cls(path, text, verbatim)

    def line(self, where: str) -> int:
        """The line of a path, or of its nearest parent that has one."""
        while where not in self._lines:
            where = where[: max(where.rfind("."), where.rfind("["), 0)]
        return self._lines[where]

    def written(self, where: str) -> str:
        """The key at `where` as the file spells it."""
        return self._written.get(where, where.rpartition(".")[2])

    def error(self, message: str, where: str) -> ConfigError:
        """A ConfigError that points at `where`."""
        return ConfigError(message, path=self.path, line=self.line(where))

    def _build(self, node: yaml.Node, where: str) -> Any:
        self._lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(entry, f"{where}[{index}]") for index, entry in enumerate(node.value)]
        try:
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"{error}", path=self.path, line=node.start_mark.line + 1) from error

    def _build_mapping(self, node: yaml.MappingNode, where: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        verbatim = any(fnmatchcase(where, pattern) for pattern in self._verbatim)
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise ConfigError("keys must be plain text", path=self.path, line=line)
            key = key_node.value if verbatim else key_node.value.replace("-", "_")
            inner = f"{where}.{key}" if where else key
            if key in result:
                raise ConfigError(f"the key {key_node.value!r} appears twice", path=self.path, line=line)
            self._lines[inner] = line
            self._written[inner] = key_node.value
            result[key] = self._build(value_node, inner)
        return result
