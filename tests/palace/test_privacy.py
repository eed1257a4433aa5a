"""Secrets are masked by their kind, private passages are left out, and no text takes long."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import pytest

from mempalace_mcp.palace.privacy import passages_in, secrets_in, shown, without_secrets

DRAWN = "q7Zk2mVx9LwPt4Rb8NcYh3Ds6Gf1Jj5Ka0Qe"
HEX = "3f9a8c7be21d4f60a5b8c9d0e1f2a3b4"
LOGIN = base64.b64encode(b"mira:lighthouse").decode()
BLOCK = f"-----BEGIN RSA PRIVATE KEY-----\nMIIE{DRAWN}{DRAWN}\n{DRAWN}\n-----END RSA PRIVATE KEY-----"

SECRETS = {
    f"ghp_{DRAWN}": "github token",
    f"github_pat_11ABC_{DRAWN}": "github token",
    f"glpat-{DRAWN[:20]}": "gitlab token",
    f"sk-ant-api03-{DRAWN}": "anthropic key",
    f"sk-proj-{DRAWN}": "openai key",
    f"sk-{DRAWN}": "api key",
    "AKIAQWERTYUIOPASDFGH": "aws access key id",
    f"AIza{DRAWN[:35]}": "google api key",
    "xoxb-1234567890-abcdefABCDEF": "slack token",
    f"sk_live_{DRAWN[:24]}": "stripe key",
    f"npm_{DRAWN}": "npm token",
    f"hf_{DRAWN[:34]}": "hugging face token",
    f"dop_v1_{HEX}{HEX}": "digitalocean token",
    f"123456789:AA{DRAWN[:33]}": "telegram token",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtaXJhIn0.c2lnbmF0dXJl": "json web token",
    BLOCK: "private key",
    BLOCK.replace("\n", "\\n"): "private key",
    BLOCK.replace("RSA ", "").replace("PRIVATE KEY", "PGP PRIVATE KEY BLOCK"): "private key",
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "Use {} for now.", "key='{}',", "(ü {})", "https://x.example/?k={}&y=1"])
def test_tokens_of_known_services_are_masked_by_their_kind(secret: str, around: str) -> None:
    assert without_secrets(around.format(secret)) == around.format(f"[secret: {SECRETS[secret]}]")


@pytest.mark.parametrize(
    ("before", "secret", "after", "kind"),
    [
        ("postgres://mira:", "sturmflut", "@db.example.org/boats", "password"),
        ("git clone https://oauth2:", "a%20b+c", "@example.org/x.git", "password"),
        ("Authorization: Bearer ", "opaque-value-8812", "", "authorization"),
        ("curl -H 'authorization: token ", HEX, "' x", "authorization"),
        ('{"Authorization": "Bearer ', DRAWN, '"}', "authorization"),
        ("Proxy-Authorization: Basic ", LOGIN, "\nHost: x", "authorization"),
        ("sent Bearer ", DRAWN, " to it", "authorization"),
        ("DB_PASSWORD=", "correcthorsebattery", "\nX=1", "password or key"),
        ("export APP_SECRET_KEY='", "stormy-night", "'", "password or key"),
        ('"api_key": "', "q7Zk2mVx9LwP", '",', "password or key"),
        ("password: ", "Boat!2024river", "", "password or key"),
        ("aws_secret_access_key = ", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYabcdefghij", "", "password or key"),
        ("deploy --token ", DRAWN[:20], " now", "password or key"),
        ("X-Api-Key: ", HEX, "", "password or key"),
        ('{\\"client_secret\\": \\"', DRAWN, '\\"}', "password or key"),
        ('{"db": {"password":"', "ferry-harbour-9", '"}}', "password or key"),
        ('"password" : "', "lighthouse2", '"', "password or key"),
        ('"api_key":\n      "', DRAWN, '"', "password or key"),
        ("export PGPASSWORD=", "kelp77x", "; psql", "password or key"),
        ("export DB_PASSWORD='", "three grey gulls at sea", "'", "password or key"),
        ("  MYSQL_ROOT_PASSWORD: ", "stormtide-42", "\n", "password or key"),
        ("$env:SERVICE_KEY_PASSWORD = '", "stormtide-42", "'", "password or key"),
        ("PASS=", "stormtide42x", " ./run", "password or key"),
        ("login --password=", "Ferry2019harbour", "", "password or key"),
        ("API key: ", DRAWN, "", "password or key"),
        ("The access key is ", DRAWN, ", I think.", "password or key"),
        ("| service | API key | ", DRAWN, " |", "password or key"),
        ("| `API_KEY` | `", DRAWN, "` |", "password or key"),
        ("| DB_PASSWORD | ", "kelp!Forest99", " |", "password or key"),
        ("os.environ['SERVICE_TOKEN'] = '", DRAWN, "'", "password or key"),
        ("<password>", "kelp!Forest99", "</password>", "password or key"),
        ("contraseña: ", "kelp!Forest99", "", "password or key"),
        ("пароль: ", "kelp!Forest99", "", "password or key"),
        ("密码：", "kelp!Forest99", "", "password or key"),
        ("git clone https://", DRAWN, "@example.org:8443/x.git", "token"),
    ],
)
def test_secrets_are_known_by_what_stands_before_them(before: str, secret: str, after: str, kind: str) -> None:
    assert without_secrets(f"{before}{secret}{after}") == f"{before}[secret: {kind}]{after}".strip()


@pytest.mark.parametrize(
    "text",
    [
        "The password for the boathouse hangs behind the door.",
        "password = getpass.getpass()",
        "token = request.headers['X-Token']",
        "def login(password: str, token: Optional[str] = None) -> Session2:",
        "const apiKey = process.env.SERVICE_KEY_2;",
        "max_tokens=16384000, token_count: 12345678, MAX_TOKENS=unlimited",
        "API_KEY=your-api-key-here and TOKEN=$GITHUB_TOKEN and SECRET=<secret-1234>",
        "API_KEY_FILE=/run/secrets/key-2024x7 TOKEN_URL=https://x.example/oauth2/token",
        "Authorization: Bearer <token>, or Basic authentication",
        "postgres://user:password@localhost and http://localhost:8080/a?b=c@d.example",
        "sk-circle-fade-dot-animation-very-long, task-list-with-many-words-in-it",
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8, id 123e4567-e89b-12d3-a456-426614174000",
        "token: base64url",
        "PASSWORD_HASHER=argon2id TOKEN_ENDPOINT=https://x.example/token SECRET_MANAGER=the-cloud-vault",
        "PASSWORD_PROMPT='Please say the word' TOKENS_PER_MINUTE=unlimited99",
        "export SERVICE_API_KEY=sk-your-key-here; SERVICE_API_KEY=sk-...",
        "EXPIRED_TOKEN = 'expired_token'; KEY_TOKEN = make_the_token()",
        '{"password": "Enter your password", "token": "string", "password_hint": "harbour2024"}',
        "PASS: tests/daemon/test_tide.py::test_9a8b7c6d and PASSTHROUGH=enabled-mode",
        "| password | at least 12 characters |",
        "Passwort: siehe Tresor-2024; mot de passe : voir le coffre; пароль: смотри в сейфе",
        "user_pass_bytes = base64.b64decode(x)",
        "-----BEGIN PRIVATE KEY----- is how the file begins, and we go on to talk about it at length.",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
    ],
)
def test_what_only_speaks_of_secrets_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_a_masked_text_stays_as_it_is() -> None:
    once = without_secrets("\n".join(f"TOKEN={secret} and {secret}" for secret in SECRETS))
    assert without_secrets(once) == once
    assert once.count("[secret: ") == 2 * len(SECRETS)


def test_a_private_key_without_its_end_is_masked_as_far_as_it_goes() -> None:
    text = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{DRAWN}{DRAWN}\n{DRAWN}{DRAWN}\nAnd so on."
    assert without_secrets(text) == "[secret: private key]\nAnd so on."


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a <private>b</private> c", "a  c"),
        ("a\n<private>\nb\n\nc\n</private>\nd", "a\n\nd"),
        ("a <PRIVATE>b</Private> c", "a  c"),
        ("a <private>b and all that follows\n\nand more", "a"),
        ("a <private>b <private>c</private> d</private> e", "a  e"),
        ("a</private> b", "a</private> b"),
        ("The tag `<private>` hides what follows.", "The tag `<private>` hides what follows."),
        ("Between `<private>` and `</private>` nothing is filed.",) * 2,
        ("a `<private>b</private>` c", "a `` c"),
        ("a\n```<private>\nb\n</private>```\nc", "a\n``````\nc"),
        ("a <private >b</ private> c", "a  c"),
        ('a <private reason="x">b</private> c', "a  c"),
        ("a <privateer>c</privateer>", "a <privateer>c</privateer>"),
        ("<private>x</private>", ""),
        (f"<private>x ghp_{DRAWN}</private> y ghp_{DRAWN}", "y [secret: github token]"),
    ],
)
def test_private_passages_are_left_out(text: str, left: str) -> None:
    assert without_secrets(text) == left
    assert "b" not in shown("<private>b</private>", passages_in("<private>b</private>", keep_secrets=True)).text


def test_parts_of_a_text_hide_what_they_share() -> None:
    text = f"one <private>two three</private> four ghp_{DRAWN} five"
    passages = passages_in(text)
    for place in range(len(text)):
        first, second = shown(text, passages, 0, place), shown(text, passages, place)
        assert first.secrets + second.secrets == 1
        together = (first.text + second.text).replace(" ", "")
        assert together == "onefour[secret:githubtoken]five"


ADVERSARIES: dict[str, Callable[[int], str]] = {
    "one word": lambda size: "a" * size,
    "prefixes": lambda size: "sk-ghp_eyJ" * (size // 10),
    "prefixes alone": lambda size: "sk- ghp_ eyJ " * (size // 13),
    "dots": lambda size: "eyJaaaaaaaaa." * (size // 13),
    "names": lambda size: "token_secret-key." * (size // 17),
    "quotes": lambda size: 'token\\": ' * (size // 9),
    "spaces": lambda size: "password" + " " * size,
    "blanks and signs": lambda size: "secret  :  =  " * (size // 14),
    "addresses": lambda size: "://a:" * (size // 5),
    "addresses without an end": lambda size: "://" + "a:" * (size // 2),
    "headers": lambda size: "authorization: bearer " * (size // 22),
    "basic": lambda size: "basic " + "a" * size,
    "keys that begin": lambda size: "-----BEGIN PRIVATE KEY-----\n" * (size // 28),
    "keys that go on": lambda size: "-----BEGIN PRIVATE KEY-----" + ("\n" + "A" * 64) * (size // 65),
    "lines of keys": lambda size: "-----BEGIN PRIVATE KEY-----" + "\n" * size,
    "private": lambda size: "<private>" * (size // 9),
    "private without an end": lambda size: "<private " * (size // 9),
    "private pairs": lambda size: "<private></private>" * (size // 19),
    "placeholders": lambda size: "TOKEN=" + "x.-_" * (size // 4),
    "mixed values": lambda size: ("TOKEN=" + "aB3-" * 128 + " ") * (size // 519),
    "phrases": lambda size: "TOKEN='" + "a b " * (size // 4),
    "phrases that begin": lambda size: "TOKEN='a b " * (size // 11),
    "tables": lambda size: "| API key " * (size // 10),
    "names in quotes": lambda size: "token`'`]:" * (size // 10),
    "secrets": lambda size: f"ghp_{DRAWN} " * (size // 41),
}


@pytest.mark.parametrize("name", ADVERSARIES)
def test_no_text_is_gone_over_again_and_again(name: str) -> None:
    small, large = ADVERSARIES[name](64_000), ADVERSARIES[name](1_024_000)
    # sixteen times the text: about sixteen times the work, not two hundred and fifty-six
    assert _work(large, attempts=1) < 64 * max(_work(small, attempts=3), _FLOOR)


_FLOOR = 1e-3


def _work(text: str, attempts: int) -> float:
    """Seconds of the processor, the least of a few attempts."""
    spent = []
    for _ in range(attempts):
        before = time.process_time()
        without_secrets(text)
        spent.append(time.process_time() - before)
    return min(spent)


def test_each_kind_has_its_name() -> None:
    text = f"ghp_{DRAWN}\nDB_PASSWORD=sturmflut77"
    assert [each.kind for each in secrets_in(text)] == ["github token", "password or key"]
