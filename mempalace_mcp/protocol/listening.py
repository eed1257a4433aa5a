"""Hearing of changes: `resources/subscribe` of sessions, `subscriptions/listen` where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.subscriptions import event_from_wire, event_to_notification
from mcp_types import (
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from mempalace_mcp.core.errors import Forbidden, InvalidArgument
from mempalace_mcp.protocol.handlers import Context, refusing
from mempalace_mcp.protocol.origin import Origin, subscriptions_of
from mempalace_mcp.protocol.subscriptions import MAX_FOLLOWED, Follower
from mempalace_mcp.runtime.feed import ChangeFeed


class Listening:
    """What `resources/subscribe`, `resources/unsubscribe` and `subscriptions/listen` answer."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed

    async def subscribe(self, context: Context, params: SubscribeRequestParams) -> EmptyResult:
        """Tell the session from now on when the resource changes."""
        with _counted(context, "resources/subscribe") as origin:
            follower = subscriptions_of(origin).follower(origin.access)
            if follower is not None:
                follower.follow(params.uri)
                await follower.join(self._feed, again=origin.resent)
        return EmptyResult()

    async def unsubscribe(self, context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Tell the session no more of it."""
        with _counted(context, "resources/unsubscribe") as origin:
            follower = subscriptions_of(origin).follower(origin.access)
            if follower is not None:
                follower.forget(params.uri)
        return EmptyResult()

    async def listen(self, context: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Tell on this request's stream what changes, until the client or the process ends it.

        The first notification says what of the wishes is granted: what is no resource of this palace is not.
        """
        with _counted(context, "subscriptions/listen") as origin:
            stream, granted = _open(params.notifications, origin)
            subscriptions = subscriptions_of(origin)
            subscriptions.add(stream)
        meta = {SUBSCRIPTION_ID_META_KEY: origin.request_id}
        try:
            with refusing(context):
                await stream.join(self._feed, again=origin.resent)
            acknowledged = SubscriptionsAcknowledgedNotificationParams(notifications=granted, _meta=meta)
            await context.session.send_notification(
                SubscriptionsAcknowledgedNotification(params=acknowledged), context.request_id
            )
            while (news := await stream.news()) is not None:
                for method, told in news:
                    event = event_from_wire(method, told)
                    assert event is not None
                    await context.session.send_notification(event_to_notification(event, meta), context.request_id)
        finally:
            subscriptions.discard(stream)
        return SubscriptionsListenResult(_meta=meta)


@contextmanager
def _counted(context: Context, method: str) -> Iterator[Origin]:
    """Count the request, and refuse as every other one is refused."""
    origin = Origin.of_request(context.request)
    with refusing(context), origin.session.call(method, origin.size):
        yield origin


def _open(wishes: SubscriptionFilter, origin: Origin) -> tuple[Follower, SubscriptionFilter]:
    """A follower of all that can be granted, and what that is."""
    uris = wishes.resource_subscriptions or []
    if len(uris) > MAX_FOLLOWED:
        raise InvalidArgument(
            f"resourceSubscriptions has {len(uris):,} entries; the limit is {MAX_FOLLOWED}",
            argument="notifications.resourceSubscriptions",
            hint="Subscribe to rooms or wings instead, or listen on another stream, too.",
        )
    lists = {
        "resources": wishes.resources_list_changed,
        "tools": wishes.tools_list_changed,
        "prompts": wishes.prompts_list_changed,
    }
    follower = Follower([kind for kind, wished in lists.items() if wished], origin.access.wings)
    for uri in uris:
        try:
            follower.follow(uri)
        except (InvalidArgument, Forbidden):
            continue
    granted = SubscriptionFilter(
        resources_list_changed=wishes.resources_list_changed or None,
        tools_list_changed=wishes.tools_list_changed or None,
        prompts_list_changed=wishes.prompts_list_changed or None,
        resource_subscriptions=list(follower.uris) or None,
    )
    return follower, granted
