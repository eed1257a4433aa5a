"""Patterns of `.gitignore` files, and decisions of the user in transcripts.

Patterns are matched as Git does, as bytes: `?` is one byte of a letter that has two. The time of a match is bounded by
the length of the pattern times that of the path. A pattern becomes a regular expression with atomic groups: text after
`*` is matched at its first place in the name, text after `**` at the first folder, and no other place is tried, since
none could succeed where the first fails.

A user decides through tools: answers to questions, accepted plans, and the reason when a tool is refused. The client
keeps these as calls of tools and their results; the results have the role of the user.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_LINE = 8 * 1024
"""Bytes of a pattern; twice as many as a path may have."""

_SPECIAL = b"*?[\\"
_SLASH = ord("/")
_NOTHING = b"(?!)"
_ANY = b"[^/]"

_CLASSES = {
    b"alnum": rb"[0-9A-Za-z]", b"alpha": rb"[A-Za-z]", b"blank": rb"[ \t]", b"cntrl": rb"[\x00-\x1f\x7f]",
    b"digit": rb"[0-9]", b"graph": rb"[!-~]", b"lower": rb"[a-z]", b"print": rb"[ -~]",
    b"punct": rb"[!-/:-@\[-`{-~]", b"space": rb"[ \t\n\r]", b"upper": rb"[A-Z]", b"xdigit": rb"[0-9A-Fa-f]",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of a `.gitignore`: what it matches, and whether that is left out or taken in again."""

    expression: re.Pattern[bytes]
    takes_in: bool
    folders_only: bool
    by_name: bool
    """Is it compared with the name alone, in whatever folder that is?"""

    def matches(self, path: bytes, name: bytes, *, is_folder: bool) -> bool:
        """Does it match a path, given from the folder of its `.gitignore` on, that ends with this name?"""
        if self.folders_only and not is_folder:
            return False
        return self.expression.fullmatch(name if self.by_name else path) is not None


def read_patterns(data: bytes) -> tuple[Pattern, ...]:
    """The patterns of a file, the last one first: it is the first that matches in this order that counts.

    Lines of more than `LONGEST_LINE` bytes are left out.
    """
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    patterns = (_read_line(line.removesuffix(b"\r")) for line in reversed(lines) if len(line) <= LONGEST_LINE)
    return tuple(pattern for pattern in patterns if pattern is not None)


def _read_line(line: bytes) -> Pattern | None:
    """The pattern, or None for a comment and for what can match nothing."""
    if line.startswith(b"#"):
        return None
    text = _without_trailing_spaces(line.split(b"\0", 1)[0])
    takes_in = text.startswith(b"!")
    text = text.removeprefix(b"!")
    folders_only = text.endswith(b"/")
    text = text.removesuffix(b"/")
    by_name = b"/" not in text
    expression = _compile(text.removeprefix(b"/")) if text else None
    return Pattern(expression, takes_in, folders_only, by_name) if expression else None


def _without_trailing_spaces(line: bytes) -> bytes:
    """A space behind a backslash stays."""
    stripped = line.rstrip(b" ")
    backslashes = len(stripped) - len(stripped.rstrip(b"\\"))
    return stripped + b" " if backslashes % 2 and len(stripped) < len(line) else stripped


def _compile(text: bytes) -> re.Pattern[bytes] | None:
    written = _Translation(text).expression()
    return None if written is None else re.compile(written, re.DOTALL)


class _Translation:
    """A pattern being turned into a regular expression, block by block: a block is what lies between two `**`."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._place = 0
        special = (self._text.find(bytes([byte])) for byte in _SPECIAL)
        self._first_special = min((place for place in special if place >= 0), default=len(text))

    def expression(self) -> bytes | None:
        """The regular expression, or None if nothing can match."""
        blocks = [self._block()]
        openings: list[bytes] = []
        while self._place < len(self._text):
            openings.append(self._opening())
            blocks.append(self._block())
        if any(_NOTHING in block for block in blocks):
            return None
        if not openings:
            return blocks[0]
        middle = [b"(?>%b%b)" % pair for pair in zip(openings[:-1], blocks[1:-1], strict=True)]
        return b"".join([blocks[0], *middle, openings[-1], blocks[-1]])

    def _opening(self) -> bytes:
        """What a `**` that stands for folders may match, taking in the slash behind it."""
        self._place += len(self._stars())
        if self._text.startswith(b"/", self._place):
            self._place += 1
            return b"(?:[^/]*/)*?"
        if self._text.startswith(b"\\/", self._place):
            self._place += 2
            return b"(?:[^/]*/)+?"
        return b".*"

    def _block(self) -> bytes:
        """Everything up to the next `**` that stands for folders, or to the end: names, with `*` in them or not."""
        names: list[bytes] = []
        pieces = [b""]
        while self._place < len(self._text) and not self._at_folders():
            if stars := self._stars():
                self._place += len(stars)
                pieces.append(b"")
                continue
            item = self._item()
            if item == b"/":
                names.append(_name(pieces))
                pieces = [b""]
            else:
                pieces[-1] += item
        return b"/".join([*names, _name(pieces)])

    def _at_folders(self) -> bool:
        """Is this a `**` between slashes? Git takes the first wildcard of all for the beginning of the pattern."""
        stars = self._stars()
        if len(stars) < 2:
            return False
        begins = self._place <= self._first_special or self._text[self._place - 1] == _SLASH
        behind = self._text[self._place + len(stars) :][:2]
        return begins and (behind == b"" or behind.startswith((b"/", b"\\/")))

    def _stars(self) -> bytes:
        end = self._place
        while self._text.startswith(b"*", end):
            end += 1
        return self._text[self._place : end]

    def _item(self) -> bytes:
        """One character, or what may stand for it."""
        character = self._text[self._place : self._place + 1]
        self._place += 1
        if character == b"?":
            return _ANY
        if character == b"[":
            return self._class()
        if character == b"\\":
            character = self._text[self._place : self._place + 1]
            self._place += 1
            return re.escape(character) if character else _NOTHING
        return re.escape(character)

    def _class(self) -> bytes:
        """A class in brackets; the slash is in none."""
        negated = self._text.startswith((b"!", b"^"), self._place)
        self._place += negated
        members: set[int] = set()
        end = _read_members(self._text, self._place, members)
        if end is None:
            self._place = len(self._text)
            return _NOTHING
        self._place = end
        chosen = (set(range(256)) - members if negated else members) - {_SLASH, 0}
        return _any_of(chosen) if chosen else _NOTHING


def _any_of(members: set[int]) -> bytes:
    starts = [byte for byte in sorted(members) if byte - 1 not in members]
    stops = [byte for byte in sorted(members) if byte + 1 not in members]
    return b"[%b]" % b"".join(b"\\x%02x-\\x%02x" % pair for pair in zip(starts, stops, strict=True))


def _name(pieces: list[bytes]) -> bytes:
    """A name with `*` between the pieces: all but the last are taken at their first place."""
    first, *others = pieces
    if not others:
        return first
    *middle, last = others
    return first + b"".join(b"(?>[^/]*?%b)" % piece for piece in middle if piece) + b"[^/]*" + last


def _read_members(text: bytes, place: int, members: set[int]) -> int | None:
    """Read the members of a class as Git does; the place behind its bracket, or None if it is malformed."""
    previous = 0
    first = True
    while first or not text.startswith(b"]", place):
        first = False
        if place >= len(text):
            return None
        byte = text[place]
        if byte == ord("\\"):
            place += 1
            if place >= len(text):
                return None
            byte = text[place]
            members.add(byte)
        elif byte == ord("-") and previous and text[place + 1 : place + 2] not in (b"", b"]"):
            place += 1
            if text.startswith(b"\\", place):
                place += 1
                if place >= len(text):
                    return None
            members.update(range(previous, text[place] + 1))
            byte = 0
        elif text.startswith(b"[:", place) and (named := _named_class(text, place)):
            place, inside = named
            if inside is None:
                return None
            members.update(inside)
            byte = 0
        else:
            members.add(byte)
        previous = byte
        place += 1
    return place + 1


def _named_class(text: bytes, place: int) -> tuple[int, Iterator[int] | None] | None:
    """Where `[:name:]` ends and what is in it, None if there is no such class; nothing if it is no name."""
    end = text.find(b"]", place + 2)
    if end < 0:
        return place, None
    if end == place + 2 or text[end - 1 : end] != b":":
        return None
    expression = _CLASSES.get(text[place + 2 : end - 1])
    if expression is None:
        return end, None
    return end, (byte for byte in range(256) if re.fullmatch(expression, bytes([byte])))


_PLAN_TOOLS = ("ExitPlanMode", "exit_plan_mode")
_OF_PLANS = ("filePath", "isAgent")
_REFUSED = re.compile(
    r"(?:Error: )?(?:The user |Permission for |The agent |The tool )[^\n]*?[Tt]he user said:[ \t]*\n?(.*)", re.DOTALL
)
_NOTE = re.compile(r"\n\s*Note: The user's next message may contain a correction or preference\..*\Z", re.DOTALL)
_ANSWERED = re.compile(
    r"(?:(?:The )?[Uu]ser (?:has )?answered (?:your|the) questions?|Your questions? (?:has|have) been answered):"
    r"\s*(.*?)\.?\s*(?:You can now continue\b.*)?\Z",
    re.DOTALL,
)
_TURNED_DOWN = re.compile(r"(?:Error: )?(?:The user doesn't want to|User rejected)\b")
_CLARIFY = "The user wants to clarify these questions"
_ASKED = re.compile(r'^- "(.*)"\s*\n\s+Answer: (.*)$', re.MULTILINE)
_APPROVED = ("User has approved your plan", "User has approved the plan", "User has approved exiting plan mode")
_NO = "Turned the plan down."
_PLAN_REJECTED = "The agent proposed a plan that was rejected by the user."
_REJECTED_PLAN = "Rejected plan:\n"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the user decided, in words, and the plan that it was about."""

    text: str
    plan: str = ""


def asked(call: Mapping[Any, Any]) -> str:
    """What the assistant asks of the user by calling a tool, or the plan it presents; empty for any other call."""
    given = call.get("input")
    if not isinstance(given, dict) or call.get("name") != "AskUserQuestion":
        return planned(call)
    questions = given.get("questions")
    return "\n\n".join(filter(None, map(_question, questions if isinstance(questions, list) else [given])))


def planned(call: Mapping[Any, Any]) -> str:
    """The plan that the assistant presents by calling a tool; empty for any other call."""
    given = call.get("input")
    return _text(given.get("plan")) if isinstance(given, dict) and call.get("name") in _PLAN_TOOLS else ""


def presented(content: Any) -> list[str]:
    """The ids of the calls by which the assistant presents plans."""
    blocks = content if isinstance(content, list) else []
    ids = (block.get("id") for block in blocks if isinstance(block, dict) and planned(block))
    return [each for each in ids if isinstance(each, str)]


def turned_down(content: Any, plans: Container[str]) -> str:
    """What the user decided who turned one of these plans down without a word, by the calls that presented them."""
    blocks = content if isinstance(content, list) else []
    is_refused = any(
        block.get("tool_use_id") in plans and _TURNED_DOWN.match(_flat(block.get("content")))
        for block in blocks
        if isinstance(block, dict) and isinstance(block.get("tool_use_id"), str)
    )
    return _NO if is_refused else ""


def decided(content: Any, result: Any) -> Decision | None:
    """What the user decided in a record, by its content and by the result that the client keeps beside it."""
    blocks = content if isinstance(content, list) else []
    results = [block for block in blocks if isinstance(block, dict) and block.get("type") == "tool_result"]
    if not results:
        return None
    told = result if isinstance(result, dict) else {}
    answers = _answers(told)
    if answers:
        return Decision(answers)
    texts = list(filter(None, (_flat(each.get("content")) for each in results)))
    if not texts and isinstance(result, str):
        texts = [result]
    decisions = list(filter(None, map(_by_text, texts)))
    plan = _text(told.get("plan"))
    if not decisions:
        return Decision("Approved the plan.", plan) if plan and not told.keys().isdisjoint(_OF_PLANS) else None
    return Decision("\n\n".join(each.text for each in decisions), plan or "".join(each.plan for each in decisions))


def _by_text(text: str) -> Decision | None:
    """What the text of one result tells of the user's decision."""
    text = text.strip()
    if text.startswith(_APPROVED):
        return Decision("Approved the plan.")
    if text.startswith(_PLAN_REJECTED):
        return Decision(_NO, text.partition(_REJECTED_PLAN)[2].strip())
    answered = _ANSWERED.match(text)
    if answered is not None:
        return Decision(answered.group(1).strip()) if answered.group(1).strip() else None
    refused = _REFUSED.match(text)
    words = "" if refused is None else _NOTE.sub("", refused.group(1)).strip()
    if words.startswith(_CLARIFY):
        words = "\n".join(f"{question} {answer.strip()}" for question, answer in _ASKED.findall(words))
    return Decision(words) if words else None


def _question(asked: Any) -> str:
    """A question with its options, a line each."""
    if not isinstance(asked, dict) or not _text(asked.get("question")):
        return ""
    options = asked.get("options")
    lines = [_text(asked.get("question"))]
    lines += [f"- {option}" for option in map(_option, options if isinstance(options, list) else []) if option]
    return "\n".join(lines)


def _option(option: Any) -> str:
    if not isinstance(option, dict):
        return _text(option)
    parts = (_text(option.get("label")), _text(option.get("description")))
    return ": ".join(filter(None, parts))


def _answers(told: Mapping[Any, Any]) -> str:
    """Each question with its answer, and what the user noted beside it."""
    notes = told.get("annotations")
    return "\n".join(
        " ".join(filter(None, (question, answer, _note(notes, question))))
        for question, answer in _pairs(told.get("answers"))
        if answer
    )


def _pairs(answers: Any) -> Iterator[tuple[str, str]]:
    if isinstance(answers, dict):
        for question, answer in answers.items():
            yield _text(question), _answer(answer)
    elif isinstance(answers, list):
        for each in answers:
            yield (_text(each.get("question")) if isinstance(each, dict) else ""), _answer(each)


def _answer(answer: Any) -> str:
    if isinstance(answer, list):
        return ", ".join(filter(None, map(_answer, answer)))
    if isinstance(answer, dict):
        return next(filter(None, (_answer(answer.get(name)) for name in ("answer", "answers", "label", "text"))), "")
    return _text(answer)


def _note(notes: Any, question: str) -> str:
    note = notes.get(question) if isinstance(notes, dict) else None
    text = _text(note.get("notes")) if isinstance(note, dict) else _text(note)
    return f"({text})" if text else ""


def _flat(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(_text(block.get("text")) for block in content if isinstance(block, dict))
    return _text(content)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
