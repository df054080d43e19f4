"""Signatures of what is posted: of every scheme, by the words of its own documentation, and what breaks them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.webhooks import challenge, key_of, read, verify
from fuyun.domain.errors import Unauthenticated
from fuyun.domain.webhooks import SCHEMES, WebhookTrigger

NOW_S = 1_700_000_000.0
SECRET = "It's a Secret to Everybody"
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def trigger(scheme: str, **fields: Any) -> WebhookTrigger:
    return WebhookTrigger(path="/hook", secrets=("S",), **{"scheme": scheme, **fields})


def hmac_hex(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def signed(scheme: str, body: str, at_s: float = NOW_S, secret: str = "") -> dict[str, str]:
    """The header fields that a sender adds, as each one's documentation has it; written apart from the code."""
    at = str(int(at_s))
    secret = secret or (STANDARD if scheme == "standard" else SECRET)
    match scheme:
        case "github":
            return {"x-hub-signature-256": f"sha256={hmac_hex(secret, body)}"}
        case "standard":
            key = base64.b64decode(secret[6:])
            digest = hmac.new(key, f"msg_1.{at}.{body}".encode(), hashlib.sha256).digest()
            signature = f"v1,{base64.b64encode(digest).decode()}"
            return {"webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": signature}
        case "stripe":
            return {"stripe-signature": f"t={at},v1={hmac_hex(secret, f'{at}.{body}')},v0=6ffbb59b"}
        case "slack":
            signature = hmac_hex(secret, f"v0:{at}:{body}")
            return {"x-slack-request-timestamp": at, "x-slack-signature": f"v0={signature}"}
        case "gitlab":
            return {"x-gitlab-token": secret}
        case _:
            return {"authorization": f"Bearer {secret}"}


def keys(scheme: str, *secrets: str) -> list[bytes]:
    one = trigger(scheme)
    return [key_of(one, secret) for secret in secrets or (STANDARD if scheme == "standard" else SECRET,)]


def test_examples_of_others_documentation() -> None:
    # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
    told = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
    verify(trigger("github"), keys("github"), told, b"Hello, World!", NOW_S)
    # The vector that implementations of Standard Webhooks share.
    told = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }  # fmt: skip
    verify(trigger("standard"), keys("standard"), told, b'{"test": 2432232314}', 1614265330.0)
    # https://docs.slack.dev/authentication/verifying-requests-from-slack
    secret = "8f742231b10e8888abcd99yyyzzz85a5"
    body = (
        "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        "&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        "&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        "&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    told = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    verify(trigger("slack"), keys("slack", secret), told, body.encode(), 1531420618.0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_signed_is_taken_and_anything_else_is_not(scheme: str) -> None:
    one, body = trigger(scheme), '{"a": "ü"}'
    told = signed(scheme, body)
    verify(one, keys(scheme), told, body.encode(), NOW_S)
    other = "whsec_" + base64.b64encode(b"other").decode() if scheme == "standard" else "other"
    both = [key_of(one, other), *keys(scheme)]
    verify(one, both, told, body.encode(), NOW_S)
    with pytest.raises(Unauthenticated) as raised:
        verify(one, both[:1], told, body.encode(), NOW_S)
    assert SECRET not in str(raised.value)
    assert STANDARD not in str(raised.value)
    for name in told:
        with pytest.raises(Unauthenticated, match=name):
            verify(one, both, {key: value for key, value in told.items() if key != name}, body.encode(), NOW_S)
    if SCHEMES[scheme].text:  # type: ignore[index]
        with pytest.raises(Unauthenticated, match="is not that of the body"):
            verify(one, both, told, body.encode() + b" ", NOW_S)


@pytest.mark.parametrize("scheme", ["standard", "stripe", "slack"])
@pytest.mark.parametrize(("off_s", "text"), [(301, "301 s old"), (-301, "301 s ahead"), (299, ""), (-299, "")])
def test_a_signed_time_is_near_ours(scheme: str, off_s: float, text: str) -> None:
    told = signed(scheme, "{}", NOW_S - off_s)
    if not text:
        verify(trigger(scheme), keys(scheme), told, b"{}", NOW_S)
        return
    with pytest.raises(Unauthenticated, match=text):
        verify(trigger(scheme), keys(scheme), told, b"{}", NOW_S)
    verify(trigger(scheme, tolerance_s=302.0), keys(scheme), told, b"{}", NOW_S)


@pytest.mark.parametrize("at", ["", "soon", "-1", "1e9", "٣", "9" * 400])
@pytest.mark.parametrize("scheme", ["standard", "stripe", "slack"])
def test_a_time_that_is_none_is_refused(scheme: str, at: str) -> None:
    told = {name: value.replace(str(int(NOW_S)), at) for name, value in signed(scheme, "{}").items()}
    with pytest.raises(Unauthenticated):
        verify(trigger(scheme), keys(scheme), told, b"{}", NOW_S)


def test_several_signatures_in_one_field() -> None:
    """As senders do while they replace their own secret."""
    told = signed("standard", "{}")
    told["webhook-signature"] = "v1a,AAAA v1,bm8= " + told["webhook-signature"]
    verify(trigger("standard"), keys("standard"), told, b"{}", NOW_S)
    told = signed("stripe", "{}")
    told["stripe-signature"] = told["stripe-signature"].replace(",v1=", ",v1=00,v1=")
    verify(trigger("stripe"), keys("stripe"), told, b"{}", NOW_S)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_no base64!", "", "whsec_ü"])
def test_secrets_that_cannot_sign(secret: str) -> None:
    with pytest.raises(ValueError, match="it is"):
        key_of(trigger("standard"), secret)
    with pytest.raises(ValueError, match="empty"):
        key_of(trigger("github"), "")


JSON = "application/json"
KINDS: list[tuple[str, dict[str, str], Any, tuple[str, str, str]]] = [
    ("github", {"x-github-event": "issues", "x-github-delivery": "72d3"},
     {"action": "opened", "repository": {"full_name": "a/b"}}, ("72d3", "com.github.issues.opened", "a/b")),
    ("github", {"x-github-event": "push"}, {"repository": 3}, ("", "com.github.push", "")),
    ("github", {}, [], ("", "com.github.webhook.received", "")),
    ("standard", {"webhook-id": "m"}, {"type": "user.created"}, ("m", "user.created", "")),
    ("standard", {"webhook-id": "m" * 300}, {"type": {"a": 1}},
     (hashlib.sha256(b"m" * 300).hexdigest(), "webhook.received", "")),
    ("stripe", {}, {"id": "evt_1", "type": "invoice.paid", "data": {"object": {"id": "in_1"}}},
     ("evt_1", "com.stripe.invoice.paid", "in_1")),
    ("slack", {}, {"event_id": "Ev1", "type": "event_callback", "event": {"type": "app_mention"}, "team_id": "T"},
     ("Ev1", "com.slack.app_mention", "T")),
    ("slack", {"x-slack-signature": "v0=1"}, {"type": "x\r\ny"},
     (hashlib.sha256(b"v0=1").hexdigest(), "com.slack.x-y", "")),
    ("gitlab", {"x-gitlab-event": "Merge Request Hook", "idempotency-key": "i"}, {},
     ("i", "com.gitlab.merge_request", "")),
    ("token", {}, {"type": "a.b"}, ("", "a.b", "")),
]  # fmt: skip


@pytest.mark.parametrize(("scheme", "headers", "body", "said"), KINDS)
def test_what_is_posted_says_what_it_is(
    scheme: str, headers: dict[str, str], body: Any, said: tuple[str, str, str]
) -> None:
    found = read(trigger(scheme), headers, JSON, json.dumps(body).encode())
    assert (found.id, found.type, found.subject) == said
    assert found.is_json


@given(
    scheme=st.sampled_from(sorted(SCHEMES)),
    body=st.binary(max_size=200),
    content_type=st.sampled_from([JSON, "", "a/b"]),
)
def test_any_body_can_be_read(scheme: str, body: bytes, content_type: str) -> None:
    found = read(trigger(scheme), {"x-hub-signature-256": "\udcff", "stripe-signature": "\udcff"}, content_type, body)
    assert found.body == body
    if found.is_json:
        json.loads(body)
    assert found.type.isascii()


@given(
    scheme=st.sampled_from(sorted(SCHEMES)), body=st.binary(max_size=64),
    value=st.text(st.characters(max_codepoint=255), max_size=80),
    at=st.text(st.characters(max_codepoint=255), max_size=12),
)  # fmt: skip
def test_nobody_guesses_a_signature(scheme: str, body: bytes, value: str, at: str) -> None:
    row = SCHEMES[scheme]  # type: ignore[index]
    told = {row.signature: value, row.time: at, row.id: "i"}
    with pytest.raises(Unauthenticated):
        verify(trigger(scheme), keys(scheme), told, body, NOW_S)


def test_requests_that_only_ask() -> None:
    ping = read(trigger("github"), {"x-github-event": "ping"}, JSON, b'{"zen": "x"}')
    assert challenge(trigger("github"), {"x-github-event": "ping"}, ping) == b'{"ping":true}'
    body = b'{"type": "url_verification", "challenge": "3eZbrw1a"}'
    asked = read(trigger("slack"), {}, JSON, body)
    assert challenge(trigger("slack"), {}, asked) == b'{"challenge":"3eZbrw1a"}'
    assert challenge(trigger("slack"), {}, read(trigger("slack"), {}, JSON, b'{"type": "event_callback"}')) is None
    assert challenge(trigger("token"), {"x-github-event": "ping"}, ping) is None
