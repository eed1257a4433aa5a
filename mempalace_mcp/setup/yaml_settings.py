"""YAML, edited as text: the reader tells where each value stands, and lines are added or cut there."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import yaml

from mempalace_mcp.setup.formats import Key, KeyPath, SettingsFault, existing, lookup, nested, newline_of, place_in

_INDENT = 2


class Yaml:
    """See `formats.Format`. A path leads through objects, by their keys."""

    def read(self, text: str) -> Any:
        """The settings as plain data; None for a text without any.

        Raises:
            SettingsFault: it is not valid, or holds several documents.
        """
        try:
            return yaml.load(text, yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            raise SettingsFault(str(error.problem or error.context), line=line, column=column) from error
        except yaml.reader.ReaderError as error:
            line, column = place_in(text, error.position)
            raise SettingsFault("a character that YAML does not allow", line=line, column=column) from error
        except (ValueError, RecursionError, TypeError) as error:
            raise SettingsFault(f"it cannot be read: {error}") from error

    def insert(self, text: str, path: KeyPath, value: Any) -> str:
        """The text with the value at the path, as the last of its object.

        Raises:
            SettingsFault: something else than an object stands on the way.
        """
        data = self.read(text)
        there = existing(data, path)
        if there == path:
            return self.insert(self.remove(text, path), path, value)
        if not isinstance(lookup(data, there), dict | None):
            mark = _nodes(text, there)[-1].start_mark
            shown = ".".join(map(str, there)) or "the file"
            raise SettingsFault(f"{shown} is not an object", line=mark.line + 1, column=mark.column + 1)
        key, inner = path[len(there)], nested(path[len(there) + 1 :], value)
        node = _nodes(text, there)[-1] if data is not None else None
        if node is not None and isinstance(node, yaml.MappingNode) and node.flow_style:
            return _into_braces(text, node, key, inner)
        if isinstance(node, yaml.MappingNode):
            column, at = node.value[0][0].start_mark.column, _end_of(text, *node.value[-1])
        else:
            keys = _key_nodes(text, there)
            column = keys[-1].start_mark.column + _INDENT if keys else 0
            at = _line_end(text, keys[-1].end_mark.index) if keys else len(text)
        newline = newline_of(text)
        lines = yaml.safe_dump({key: inner}, sort_keys=False, allow_unicode=True, width=float("inf"))
        block = textwrap.indent(lines, " " * column).replace("\n", newline)
        if at and text[at - 1] != "\n":  # the last line of the file has no end
            block = newline + block.removesuffix(newline)
        return text[:at] + block + text[at:]

    def remove(self, text: str, path: KeyPath) -> str:
        """The text without what is at the path."""
        holder = _nodes(text, path[:-1])[-1]
        position = next(place for place, (key, _) in enumerate(holder.value) if key.value == path[-1])
        key, value = holder.value[position]
        if holder.flow_style:
            start, end = key.start_mark.index, value.end_mark.index
            if position + 1 < len(holder.value):
                end = holder.value[position + 1][0].start_mark.index
            elif position:
                start = holder.value[position - 1][1].end_mark.index
            return text[:start] + text[end:]
        start, end = key.start_mark.index - key.start_mark.column, _end_of(text, key, value)
        if end == len(text) and not text.endswith("\n"):
            start = len(text[:start].removesuffix("\n").removesuffix("\r"))
        return text[:start] + text[end:]


def _into_braces(text: str, node: Any, key: Key, value: Any) -> str:
    """The text with one more member of an object in braces. What JSON writes is YAML too."""
    entry = f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"
    if node.value:
        at = node.value[-1][1].end_mark.index
        return f"{text[:at]}, {entry}{text[at:]}"
    at = node.start_mark.index + 1
    return text[:at] + entry + text[at:]


def _nodes(text: str, path: KeyPath) -> list[Any]:
    """The nodes from the root to the one at the path."""
    nodes = [yaml.compose(text, yaml.SafeLoader)]
    for key in path:
        nodes.append(next(value for each, value in nodes[-1].value if each.value == key))
    return nodes


def _key_nodes(text: str, path: KeyPath) -> list[Any]:
    """The nodes of the keys on a path."""
    nodes = _nodes(text, path)
    return [
        next(each for each, _ in node.value if each.value == key) for node, key in zip(nodes[:-1], path, strict=True)
    ]


def _end_of(text: str, key: Any, value: Any) -> int:
    """Behind the last line of a member. (An alias has the place of what it stands for.)"""
    while value.start_mark.index > key.start_mark.index and getattr(value, "flow_style", True) is False and value.value:
        last = value.value[-1]
        key, value = last if isinstance(last, tuple) else (value, last)
    index = max(key.end_mark.index if isinstance(key, yaml.ScalarNode) else 0, value.end_mark.index)
    if value.start_mark.index < key.start_mark.index:
        index = key.end_mark.index
    return _line_end(text, index)


def _line_end(text: str, index: int) -> int:
    """The beginning of the next line, or the end of the text."""
    if index and text[index - 1] == "\n":
        return index
    end = text.find("\n", index)
    return len(text) if end < 0 else end + 1
