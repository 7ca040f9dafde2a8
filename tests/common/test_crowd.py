"""Pure: how many connections each address has."""

from __future__ import annotations

import pytest

from common.addresses import network_of
from common.crowd import Crowd


def test_an_address_has_as_many_as_it_may_and_others_have_theirs():
    crowd = Crowd(2)
    assert [crowd.enter("192.0.2.1") for _ in range(4)] == [0, 0, 1, 2]
    assert crowd.enter("192.0.2.2") == 0
    for _ in range(3):
        crowd.leave("192.0.2.1")
    assert crowd.enter("192.0.2.1") == 0


def test_who_has_gone_takes_no_memory():
    crowd = Crowd(1)
    for n in range(100):
        crowd.enter(f"192.0.2.{n}")
        crowd.leave(f"192.0.2.{n}")
    assert len(crowd) == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("not:an:address", "not:an:address"),
    ],
)
def test_one_host_is_one_network(address, network):
    assert network_of(address) == network
