"""Webhooks: addresses of the gateway where other people's systems post, each under one scheme of signing.

A scheme is a row of `SCHEMES`: where its signature stands, over which text it is made, and how what is posted says its
id and its type. What reads and checks it is `decide/webhooks.py`.

GitHub: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
Stripe: https://docs.stripe.com/webhooks#verify-manually
Slack: https://docs.slack.dev/authentication/verifying-requests-from-slack
GitLab: https://docs.gitlab.com/user/project/integrations/webhooks/
"""

from __future__ import annotations

from typing import Final, Literal

from fuyun.domain.errors import BadRequest
from fuyun.domain.wire import Wire

SchemeName = Literal["github", "standard", "stripe", "slack", "gitlab", "token"]
#: Secrets that are good at one time.
MOST_SECRETS: Final = 8
#: Fields that a scheme `token` may not use: others read them.
_TAKEN: Final = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "cookie"})


class WebhookTrigger(Wire, frozen=True, kw_only=True):
    """Calls the function with what another system posts to a path of the gateway. `secrets` are names of the
    namespace's secrets, any of which signs: while one is being replaced there are two."""

    path: str
    scheme: SchemeName = "github"
    secrets: tuple[str, ...] = ()
    header: str = ""  # of scheme `token`: the field that holds the token; "" is Authorization: Bearer
    tolerance_s: float = 300.0  # how far a signed time may be from ours
    remember_s: float = 3 * 86400.0  # how long what was posted is known again by its id
    raw: bool = False  # whether the event's data is always the very bytes that came, as data_base64
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class Scheme(Wire, frozen=True, kw_only=True):
    """How a system signs what it posts. Header fields in lower case; "" for what it does not have.

    `text` is what is signed, with `{id}`, `{time}` and `{body}`; "" means that the field holds the secret itself.
    `prefix` stands before the signature, `base64` says how it is written (else hex). Paths such as `event.type` are
    members of a JSON body. `type` begins the types of its events.
    """

    signature: str
    text: str = ""
    prefix: str = ""
    base64: bool = False
    time: str = ""  # field of the time that is signed
    packed: bool = False  # the field is `t=TIME,v1=SIGNATURE[,v1=SIGNATURE]`
    many: bool = False  # the field may hold several, apart by a space
    id: str = ""
    id_path: str = ""
    kind: str = ""  # field of the kind of event
    kind_paths: tuple[str, ...] = ()
    type: str
    subject_path: str = ""


SCHEMES: Final[dict[SchemeName, Scheme]] = {
    "github": Scheme(
        signature="x-hub-signature-256", text="{body}", prefix="sha256=", id="x-github-delivery",
        kind="x-github-event", kind_paths=("action",), type="com.github", subject_path="repository.full_name",
    ),
    "standard": Scheme(
        signature="webhook-signature", text="{id}.{time}.{body}", prefix="v1,", base64=True, many=True,
        time="webhook-timestamp", id="webhook-id", kind_paths=("type",), type="",
    ),
    "stripe": Scheme(
        signature="stripe-signature", text="{time}.{body}", prefix="v1=", packed=True, id_path="id",
        kind_paths=("type",), type="com.stripe", subject_path="data.object.id",
    ),
    "slack": Scheme(
        signature="x-slack-signature", text="v0:{time}:{body}", prefix="v0=", time="x-slack-request-timestamp",
        id_path="event_id", kind_paths=("event.type", "type"), type="com.slack", subject_path="team_id",
    ),
    "gitlab": Scheme(
        signature="x-gitlab-token", id="idempotency-key", kind="x-gitlab-event", type="com.gitlab",
        subject_path="project.path_with_namespace",
    ),
    "token": Scheme(signature="authorization", id="webhook-id", kind_paths=("type",), type=""),
}  # fmt: skip


def scheme_of(trigger: WebhookTrigger) -> Scheme:
    """The row that holds for a trigger."""
    return SCHEMES[trigger.scheme]


def check_header(trigger: WebhookTrigger) -> None:
    """BadRequest unless `header` is the name of a field that can hold a token, in a scheme that has one."""
    if not trigger.header:
        return
    if trigger.scheme != "token":
        raise BadRequest(
            f"scheme {trigger.scheme!r} has its own field, {scheme_of(trigger).signature}",
            hint="leave header out, or use scheme: token",
        )
    plain = trigger.header.replace("-", "").replace("_", "")
    if not (plain.isascii() and plain.isalnum()) or trigger.header.lower() in _TAKEN or len(trigger.header) > 64:
        raise BadRequest(f"{trigger.header[:64]!r} cannot hold a token", hint="name a field such as X-Token")
