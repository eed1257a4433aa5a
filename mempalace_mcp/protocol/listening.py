"""Hearing of changes: `resources/subscribe` of sessions, `subscriptions/listen` where there are none.

Whoever was listening to an earlier process, and is brought along by a bridge, is told at once that anything may have
changed: nobody knows what did while there was no process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.subscriptions import event_from_wire, event_to_notification
from mcp_types import (
    EmptyResult,
    ListResourcesResult,
    PaginatedRequestParams,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mempalace_mcp.core.errors import Forbidden, InvalidArgument, PalaceError
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.requests import Context, mcp_error
from mempalace_mcp.protocol.resources import Resources
from mempalace_mcp.protocol.subscriptions import MAX_FOLLOWED, RESOURCES, Follower, Subscriptions
from mempalace_mcp.runtime.feed import ChangeFeed


class Listening:
    """What `resources/subscribe`, `resources/unsubscribe` and `subscriptions/listen` answer."""

    def __init__(self, feed: ChangeFeed, resources: Resources) -> None:
        self._feed = feed
        self._resources = resources

    async def subscribe(self, context: Context, params: SubscribeRequestParams) -> EmptyResult:
        """Tell the session from now on when the resource changes."""
        with _counted(context, "resources/subscribe") as origin:
            follower = _subscriptions(origin).follower(origin.access)
            if follower is not None:
                follower.follow(params.uri)
                await follower.join(self._feed)
                _catch_up(origin, follower)
        return EmptyResult()

    async def unsubscribe(self, context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Tell the session no more of it."""
        with _counted(context, "resources/unsubscribe") as origin:
            follower = _subscriptions(origin).follower(origin.access)
            if follower is not None:
                follower.forget(params.uri)
        return EmptyResult()

    async def list(self, context: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        """The list of resources; a session that has seen it hears when it is another one."""
        modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
        return await self._resources.list(context, params, None if modern else self._follow_list)

    async def _follow_list(self, origin: Origin) -> None:
        follower = _subscriptions(origin).follower(origin.access)
        if follower is not None:
            follower.lists.add(RESOURCES)
            await follower.join(self._feed)
            _catch_up(origin, follower)

    async def listen(self, context: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Tell on this request's stream what changes, until the client or the process ends it.

        The first notification says what of the wishes is granted: what is no resource of this palace is not.
        """
        with _counted(context, "subscriptions/listen") as origin:
            stream, granted = _open(params.notifications, origin)
            subscriptions = _subscriptions(origin)
            subscriptions.add(stream)
        meta = {SUBSCRIPTION_ID_META_KEY: origin.request_id}
        try:
            await stream.join(self._feed)
            _catch_up(origin, stream)
            acknowledged = SubscriptionsAcknowledgedNotificationParams(notifications=granted, _meta=meta)
            await context.session.send_notification(
                SubscriptionsAcknowledgedNotification(params=acknowledged), context.request_id
            )
            while (news := await stream.news()) is not None:
                for method, told in news:
                    event = event_from_wire(method, told)
                    assert event is not None
                    await context.session.send_notification(event_to_notification(event, meta), context.request_id)
        except PalaceError as error:
            raise mcp_error(error, context.protocol_version) from None
        finally:
            subscriptions.discard(stream)
        return SubscriptionsListenResult(_meta=meta)


@contextmanager
def _counted(context: Context, method: str) -> Iterator[Origin]:
    """Count the request, and refuse as every other one is refused."""
    origin = Origin.of_request(context.request)
    try:
        with origin.session.call(method, origin.size):
            yield origin
    except PalaceError as error:
        raise mcp_error(error, context.protocol_version) from None


def _subscriptions(origin: Origin) -> Subscriptions:
    if origin.subscriptions is None:
        raise TypeError("a door attached no subscriptions to its request")
    return origin.subscriptions


def _catch_up(origin: Origin, follower: Follower) -> None:
    if origin.resent:
        follower.hear(None)


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
