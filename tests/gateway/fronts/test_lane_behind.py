"""Collaboration: everything that holds of the lane holds behind a front. The tests are the lane's own."""

from __future__ import annotations

from tests.gateway.http1.test_asgi import *  # noqa: F403
from tests.gateway.http1.test_drain import *  # noqa: F403
from tests.gateway.http1.test_handover import *  # noqa: F403
from tests.gateway.http1.test_lane import *  # noqa: F403
from tests.gateway.http1.test_lane_refusals import *  # noqa: F403
from tests.gateway.http1.test_websocket import *  # noqa: F403

# 1. What a front has understood it does not say again: the target, and headers that are the connection's.
# 2. It cannot know whether a handler wants to hear of a client that left, and takes it that all do.
# 3. The gateway hears of limits that were met after the client has: see test_front.
del test_an_address_with_a_connection_too_many_is_told_so  # noqa: F821
del test_what_is_refused_is_counted_by_its_limit  # noqa: F821
del test_the_exchange_says_what_was_asked  # noqa: F821
del test_a_client_that_half_closes_is_answered_when_its_handler_does_not_care  # noqa: F821
