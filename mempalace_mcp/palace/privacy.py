"""What a text should not be filed with: secrets such as keys and passwords, and passages between `<private>` tags.

A kind of secret has a few words without which it does not occur, so an ordinary text costs little.
No pattern can go over the same text again and again: what repeats is bounded, or ends where it cannot match.
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Passage:
    """A half-open range of a text that is not filed. A secret has a `kind`; a private passage has none."""

    start: int
    stop: int
    kind: str | None

    @property
    def instead(self) -> str:
        """What stands in its place, the same for all of a kind."""
        return "" if self.kind is None else f"[secret: {self.kind}]"


@dataclass(frozen=True, slots=True)
class Shown:
    """A text, or a part of one, as it is filed, and how many secrets are masked in it."""

    text: str
    secrets: int


def passages_in(text: str, *, keep_secrets: bool = False) -> list[Passage]:
    """What of a text is not filed, in its order; no two overlap."""
    found = private_passages(text)
    if not keep_secrets:
        found += secrets_in(text)
    return _disjoint(found)


def shown(text: str, passages: Sequence[Passage], start: int = 0, stop: int | None = None) -> Shown:
    """A part of a text without its `passages`. A secret that two parts share is named in the first of them."""
    end = len(text) if stop is None else stop
    pieces: list[str] = []
    secrets, position = 0, start
    for passage in passages[bisect_right(passages, start, key=lambda each: each.stop) :]:
        if passage.start >= end:
            break
        pieces.append(text[position : max(position, passage.start)])
        if passage.start >= start:
            pieces.append(passage.instead)
            secrets += passage.kind is not None
        position = min(passage.stop, end)
    if position == start:
        return Shown(text[start:end], 0)
    return Shown("".join([*pieces, text[position:end]]).strip(), secrets)


def without_secrets(text: str) -> str:
    """The text as it is filed."""
    return shown(text, passages_in(text)).text


def secrets_in(text: str) -> list[Passage]:
    """The secrets in a text, in its order; no two overlap."""
    folded = text.lower()
    long = " ".join(word for word in folded.split() if len(word) >= _SHORTEST_TOKEN)
    kinds = [each for each in _TOKENS if any(word in long for word in each.words)] if long else []
    kinds += [each for each in _IN_CONTEXT if any(word in folded for word in each.words)]
    found = [passage for each in kinds for passage in each.find(text, folded)]
    if "private key" in folded:
        found += _private_keys(text)
    return _disjoint(found)


def _disjoint(found: list[Passage]) -> list[Passage]:
    """The passages in their order, those that overlap joined. The most exact kind comes first in the table."""
    joined: list[Passage] = []
    for passage in sorted(found, key=lambda each: each.start):  # stable
        if joined and passage.start < joined[-1].stop:
            last = joined[-1]
            kind = None if passage.kind is None else last.kind
            joined[-1] = Passage(last.start, max(last.stop, passage.stop), kind)
        else:
            joined.append(passage)
    return joined


_PRIVATE_TAG = re.compile(
    r"(?P<before>`?)(?P<tag><(?P<slash>/?)\s{0,3}private(?:\s[^<>]{0,200})?>)(?=(?P<after>`?))", re.IGNORECASE
)


def private_passages(text: str) -> list[Passage]:
    """The passages between `<private>` and `</private>`; one that is not closed goes on to the end."""
    found: list[Passage] = []
    if "private" not in text.lower():
        return found
    depth = start = 0
    for tag in _PRIVATE_TAG.finditer(text):
        if tag["before"] and tag["after"]:
            continue  # alone in backticks, it is spoken of
        if not tag["slash"]:
            start = start if depth else tag.start("tag")
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                found.append(Passage(start, tag.end(), None))
    return [*found, Passage(start, len(text), None)] if depth else found


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of secret: words in lower case of which one occurs in each, and its pattern. The group `secret` is the
    secret, or `quoted` that holds blanks, or all of it without such groups; `verify` may turn down what was found."""

    name: str
    words: tuple[str, ...]
    pattern: str
    verify: Callable[[re.Match[str]], bool] | None = None
    before: int | None = None
    """How many characters before one of the words the pattern may begin, at most; None if it may begin anywhere."""

    def find(self, text: str, folded: str) -> Iterator[Passage]:
        """The secrets of this kind. `folded` is the text in lower case."""
        for match in self._matches(text, folded):
            if self.verify is None or self.verify(match):
                yield Passage(*match.span(_group(match)), self.name)

    def _matches(self, text: str, folded: str) -> Iterator[re.Match[str]]:
        pattern = _compiled(self.pattern)
        if self.before is None or len(folded) != len(text):  # a few letters are longer in lower case
            yield from pattern.finditer(text)
            return
        # To look at the words alone takes a twentieth of the time of trying the pattern at each character.
        end = 0
        for start in self._starts(folded, self.before):
            if start >= end and (match := pattern.match(text, start)) is not None:
                end = match.end()
                yield match

    def _starts(self, folded: str, before: int) -> list[int]:
        found: set[int] = set()
        for word in self.words:
            position = folded.find(word)
            while position >= 0:
                found.update(range(max(0, position - before), position + 1))
                position = folded.find(word, position + 1)
        return sorted(found)


def _group(match: re.Match[str]) -> str | int:
    return next((name for name in ("secret", "quoted") if match.groupdict().get(name) is not None), 0)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)  # at the first use: the start of a session does not wait for it


_PLACEHOLDER = re.compile(
    r"(?i)(?:[a-z]{2,4}-)?[x*.#_-]+|[<$%{].*|(?:[a-z]{2,4}[_-])?(?:your|my|the|some|example|sample|dummy|fake|test|change|placeholder|redacted|insert)"
    r"(?:[_-].*|me|this)?|(?:pass(?:word|wd)?|secret|token|none|null|nil|true|false|undefined)[?!]?|\d+|(.)\1+"
)
_WORDS = re.compile(r"[A-Za-z]{0,20}\d{0,3}(?:[._/-][A-Za-z]{0,20}\d{0,3})*")
_REFERENCE = re.compile(
    r"(?:\.{0,2}|~)/|[a-z+]{2,20}://|[\w.]+[(\[]|(?:process\.env|os|self|env|config|settings|args)\."
)
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{16,}")
_RUN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_DENSEST_WORDS = 0.35
"""Runs of letters or digits for each character; random values have more than words with numbers have."""
_FEWEST_DISTINCT = 6
_LONG = 24


def _is_made_up(value: str) -> bool:
    """Has the value letters and digits, without being words, a placeholder or the name of something else?"""
    return (
        len(set(value)) >= _FEWEST_DISTINCT
        and any(map(str.isalpha, value))
        and any(map(str.isdigit, value))
        and not (_WORDS.fullmatch(value) or _PLACEHOLDER.fullmatch(value) or _REFERENCE.match(value))
    )


def _is_random(value: str) -> bool:
    """Does the value look as if a program had drawn it?"""
    if not _is_made_up(value):
        return False
    is_long = len(value) >= _LONG or _HEXADECIMAL.fullmatch(value) is not None
    return is_long or len(_RUN.findall(value)) >= _DENSEST_WORDS * len(value)


def _after_prefix(match: re.Match[str]) -> bool:
    return _is_made_up(match.group().partition("-")[2])


def _login(match: re.Match[str]) -> bool:
    return not _PLACEHOLDER.fullmatch(match.group("secret"))


def _basic(match: re.Match[str]) -> bool:
    """Is it a name and a password in Base64?"""
    data = match.group("secret")
    try:
        return b":" in base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False


def _header(match: re.Match[str]) -> bool:
    value = match.group("secret")
    if _PLACEHOLDER.fullmatch(value) or _REFERENCE.match(value):
        return False
    if match.group("header"):
        return any(map(str.isdigit, value)) or len(value) >= _LONG
    return _is_random(value)


def _setting(match: re.Match[str]) -> bool:
    """Of a setting in capitals, as in an environment, and of a password in quotes also a value that people choose."""
    name, between = match["name"] + match["rest"], match["between"].strip()
    is_environment = name.isupper() and between == "="
    if match["quoted"] is not None:
        return is_environment and not (_NO_SECRET.search(name) or _PLACEHOLDER.fullmatch(match["quoted"]))
    value = match["secret"]
    if _NO_SECRET.search(name) or _PLACEHOLDER.fullmatch(value) or _REFERENCE.match(value):
        return False
    if is_environment and (match["between"] == "=" or (match["quote"] and any(map(str.isdigit, value)))):
        return True
    if len(value) < _SHORTEST_VALUE:
        return False
    return _is_random(value) or (_PASSWORD.match(name) is not None and between != "" and _is_chosen(match, value))


def _is_chosen(match: re.Match[str], value: str) -> bool:
    """May the value be a password that somebody made up? In quotes or in capitals it may be of words with a number."""
    if (match["quote"] or match["name"].isupper()) and any(map(str.isdigit, value)):
        return not value.isdigit()
    return _is_made_up(value) and (match["between"] == "=" or not value.isalnum())


_SHORTEST_VALUE = 8
"""Of what is no setting in capitals."""
_PASSWORD_WORDS = "contraseñ?a|mot de passe|senha|wachtwoord|hasło|пароль|密码|密碼|パスワード|비밀번호"
"""The word in other languages."""
_PASSWORD = re.compile(rf"(?i)_?passw|passphrase|pwd|{_PASSWORD_WORDS}")
_NO_SECRET = re.compile(
    r"(?i)(?:tokens(?:_per_\w+)?|file|path|dir|url|uri|name|id|ids|header|type|ttl|expir\w*|length|size|count|limit"
    r"|endpoint|hasher|manager|provider|algorithm|policy|prompt|label|hint|message|title|format|version)\Z"
)
_B = r"(?<![A-Za-z0-9])"
_E = r"(?![A-Za-z0-9])"

_SHORTEST_TOKEN = 16
_TOKENS = (
    _Kind(
        "github token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        rf"{_B}(?:gh[pousr]_[A-Za-z0-9]{{30,}}|github_pat_[A-Za-z0-9_]{{22,}})",
    ),
    _Kind(
        "gitlab token",
        ("glpat-", "gloas-", "gldt-", "glrt-", "glcbt-", "glptt-", "glagent-", "glsoat-"),
        rf"{_B}gl(?:pat|oas|dt|rt|cbt|ptt|agent|soat)-[\w-]{{20,}}",
    ),
    _Kind("anthropic key", ("sk-ant-",), rf"{_B}sk-ant-[\w-]{{20,}}"),
    _Kind("openrouter key", ("sk-or-",), rf"{_B}sk-or-[\w-]{{20,}}"),
    _Kind("openai key", ("sk-",), rf"{_B}sk-(?:proj|svcacct|admin|None)-[\w-]{{20,}}"),
    _Kind("api key", ("sk-",), r"(?<![\w-])sk-[\w-]{18,}", _after_prefix),
    _Kind("aws access key id", ("akia", "asia", "abia", "acca"), rf"{_B}(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{16}}{_E}"),
    _Kind("google api key", ("aiza",), rf"{_B}AIza[\w-]{{35}}(?![\w-])"),
    _Kind(
        "google token",
        ("ya29.", "gocspx-", "1//0"),
        rf"{_B}(?:ya29\.[\w-]{{20,}}|GOCSPX-[\w-]{{20,}}|1//0[\w-]{{30,}})",
    ),
    _Kind(
        "slack token",
        ("xox", "xapp-"),
        rf"{_B}(?:xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{{10,}}|xapp-\d-[A-Za-z0-9-]{{10,}})",
    ),
    _Kind(
        "slack webhook",
        ("hooks.slack.com",),
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[\w/-]{20,})",
    ),
    _Kind("discord webhook", ("/api/webhooks/",), r"discord(?:app)?\.com/api/webhooks/\d{5,25}/(?P<secret>[\w-]{20,})"),
    _Kind("discord token", (".",), r"[MNO](?<![\w-].)[\w-]{22,27}\.[\w-]{6}\.[\w-]{27,45}(?![\w-])"),
    _Kind("telegram token", (":aa",), rf"{_B}\d{{8,10}}:AA[\w-]{{32,34}}(?![\w-])"),
    _Kind(
        "stripe key",
        ("k_live_", "k_test_", "whsec_"),
        rf"{_B}(?:[spr]k_(?:live|test)_[A-Za-z0-9]{{16,}}|whsec_[\w+/=]{{24,}})",
    ),
    _Kind("npm token", ("npm_",), rf"{_B}npm_[A-Za-z0-9]{{36}}{_E}"),
    _Kind("pypi token", ("pypi-",), rf"{_B}pypi-[\w-]{{40,}}"),
    _Kind("hugging face token", ("hf_",), rf"{_B}hf_[A-Za-z0-9]{{30,}}"),
    _Kind("groq key", ("gsk_",), rf"{_B}gsk_[A-Za-z0-9]{{40,}}"),
    _Kind("xai key", ("xai-",), rf"{_B}xai-[A-Za-z0-9]{{60,}}"),
    _Kind("replicate token", ("r8_",), rf"{_B}r8_[A-Za-z0-9]{{36,}}"),
    _Kind("perplexity key", ("pplx-",), rf"{_B}pplx-[A-Za-z0-9]{{32,}}"),
    _Kind("databricks token", ("dapi",), rf"{_B}dapi[0-9a-f]{{32}}{_E}"),
    _Kind("digitalocean token", ("_v1_",), rf"{_B}do[opr]_v1_[0-9a-f]{{64}}"),
    _Kind("sendgrid key", ("sg.",), rf"{_B}SG\.[\w-]{{16,32}}\.[\w-]{{16,64}}"),
    _Kind("mailgun key", ("key-",), rf"{_B}key-[0-9a-f]{{32}}{_E}"),
    _Kind("vault token", ("hvs.", "hvb.", "hvr."), rf"{_B}hv[sbr]\.[\w-]{{20,}}"),
    _Kind("doppler token", ("dp.",), rf"{_B}dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{{30,}}"),
    _Kind("linear key", ("lin_",), rf"{_B}lin_(?:api|oauth)_[A-Za-z0-9]{{32,}}"),
    _Kind(
        "notion token", ("ntn_", "secret_"), rf"{_B}(?:ntn_[A-Za-z0-9]{{40,}}|secret_[A-Za-z0-9]{{43}}(?![A-Za-z0-9]))"
    ),
    _Kind("shopify token", ("shp",), rf"{_B}shp(?:at|ca|pa|ss)_[0-9a-fA-F]{{32}}"),
    _Kind("square token", ("sq0",), rf"{_B}sq0(?:atp|csp|idp)-[\w-]{{22,}}"),
    _Kind("supabase key", ("sbp_", "sb_secret_"), rf"{_B}(?:sbp_[0-9a-f]{{40}}|sb_secret_[\w-]{{20,}})"),
    _Kind("planetscale token", ("pscale_",), rf"{_B}pscale_(?:tkn|pw|oauth)_[\w-]{{32,}}"),
    _Kind("grafana token", ("glsa_", "glc_"), rf"{_B}(?:glsa_[\w-]{{32,}}|glc_[\w+/=]{{32,}})"),
    _Kind("sentry token", ("sntry",), rf"{_B}sntry[su]_[\w+/=-]{{40,}}"),
    _Kind("postman key", ("pmak-",), rf"{_B}PMAK-[0-9a-f]{{24}}-[0-9a-f]{{34}}"),
    _Kind("pulumi token", ("pul-",), rf"{_B}pul-[0-9a-f]{{40}}{_E}"),
    _Kind("terraform token", (".atlasv1.",), rf"{_B}[A-Za-z0-9]{{14}}\.atlasv1\.[\w-]{{60,}}"),
    _Kind("docker token", ("dckr_",), rf"{_B}dckr_(?:pat|oat)_[\w-]{{20,}}"),
    _Kind("rubygems key", ("rubygems_",), rf"{_B}rubygems_[0-9a-f]{{48}}{_E}"),
    _Kind("atlassian token", ("atatt3", "atctt3"), rf"{_B}AT[AC]TT3[\w=-]{{60,}}"),
    _Kind("new relic key", ("nrak-",), rf"{_B}NRAK-[A-Z0-9]{{27}}{_E}"),
    _Kind("tailscale key", ("tskey-",), rf"{_B}tskey-[a-z]{{2,20}}-[\w-]{{15,}}"),
    _Kind("figma token", ("figd_",), rf"{_B}figd_[\w-]{{30,}}"),
    _Kind("airtable token", ("pat",), rf"{_B}pat[A-Za-z0-9]{{14}}\.[0-9a-f]{{64}}"),
    _Kind("1password token", ("ops_eyj",), rf"{_B}ops_eyJ[\w-]{{100,}}"),
    _Kind("age key", ("age-secret-key-",), rf"{_B}AGE-SECRET-KEY-1[A-Z0-9]{{50,}}"),
    _Kind(
        "azure key",
        ("accountkey=", "sharedaccesskey="),
        r"(?:AccountKey|SharedAccessKey)=(?P<secret>[A-Za-z0-9+/]{40,}={0,2})",
    ),
    _Kind("json web token", ("eyj",), r"(?<![\w.-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
)
"""Secrets that are known by themselves, within words of at least `_SHORTEST_TOKEN` characters."""

_VALUE = (
    r"(?P<rest>[\w.-]{0,40}+)(?:\\?[\"'`]){0,2}\]?"
    r"(?P<between>\s{0,3}(?::=|=>|=|:|：|\||>)\s{0,20}|[ \t](?:(?:is|was|to)[ \t])?)"
    r"(?:[\"'](?P<quoted>[^\s\"'\\]{1,100} [^\"'\n\\]{4,400})[\"']"
    r"|(?P<quote>\\?[\"'`])?(?P<secret>[^\s\"'`,;|()\[\]{}<>\\]{6,512}))"
)
"""What may stand behind the name of a password or key: the rest of the name, a sign or a blank, and the value."""

_IN_CONTEXT = (
    _Kind("password", ("://",), r"://[^\s/:@\"'`<>]{0,200}:(?P<secret>[^\s/@\"'`<>]{1,200})@", _login, before=0),
    _Kind(
        "token",
        ("://",),
        r"https?://(?P<secret>[\w-]{20,200})@",
        lambda match: _is_random(match["secret"]),
        before=len("https"),
    ),
    _Kind(
        "authorization",
        ("basic ",),
        r"(?i)\bbasic\s{1,3}(?P<secret>[a-z0-9+/]{8,400}={0,2})(?![a-z0-9+/=])",
        _basic,
        before=0,
    ),
    _Kind(
        "authorization",
        ("authorization", "bearer"),
        r"(?i)\b(?:(?P<header>authorization\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?(?:[a-z]{1,20}\s{1,3})?)|bearer\s{1,3})"
        r"(?P<secret>[\w.~+/=-]{8,4096})",
        _header,
        before=0,
    ),
    _Kind(
        "password or key",
        ("secret", "pass", "token", "credential", "pwd", *_PASSWORD_WORDS.replace("ñ?a", "").split("|")),
        r"(?P<name>(?i:secret|passwor[dt]|passwd|passphrase|token|credentials?|pwd|_pass"
        rf"|{_PASSWORD_WORDS})|\bPASS(?==)){_VALUE}",
        _setting,
        before=len("_"),
    ),
    _Kind(
        "password or key",
        tuple(f"{end}key" for end in ("api", "ss", "te", "th", "ng", "on", "er", "nt", "et", " ", "_", "-")),
        rf"(?P<name>(?i:(?:api|access|private|auth|signing|encryption|master|account|secret)[ _-]?key)){_VALUE}",
        _setting,
        before=len("encryption"),
    ),
)
"""Secrets that are known by what stands before them."""


_KEY_MARK = re.compile(r"-{4,5} ?(BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_KEY_LINES = re.compile(r"(?:(?:\s|\\[nr]){1,8}[A-Za-z0-9+/=]{40,100})+")


def _private_keys(text: str) -> Iterator[Passage]:
    """Blocks of private keys. Of one without an end, the lines of Base64 that follow."""
    begun: re.Match[str] | None = None
    for mark in [*_KEY_MARK.finditer(text), None]:
        if begun is not None:
            if mark is not None and mark.group(1) == "END":
                yield Passage(begun.start(), mark.end(), "private key")
            elif (lines := _KEY_LINES.match(text, begun.end())) is not None:
                yield Passage(begun.start(), lines.end(), "private key")
        begun = mark if mark is not None and mark.group(1) == "BEGIN" else None
