"""appliance.audit.chain"""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.chain import (
    EVOLUTION_MAX,
    MINUTE,
    UNWITNESSED_MAX,
    EpochKey,
    Link,
    Walker,
    add,
    follow,
    genesis,
    next_epoch,
)
from appliance.audit.record import Moment, encode_body, join_line
from tests.unit.audit.making import NOON, SECOND, MovableClock, event

FOUNDED = NOON // MINUTE
K0 = EpochKey(0, bytes(32))


def grow(moments: list[Moment]) -> tuple[list[bytes], list[Link]]:
    link, key = genesis(moments[0]), K0
    lines, links = [], []
    for number, moment in enumerate(moments):
        added = add(link, key, FOUNDED, event(number), moment)
        link, key = added.link, added.key
        lines.append(added.line)
        links.append(link)
    return lines, links


def test_keys_go_forward_as_documented() -> None:
    assert K0.at(1).key == hashlib.sha256(b"evolve" + bytes(32)).digest()
    assert K0.at(3) == K0.at(1).at(3)


def test_the_epoch_is_the_minute() -> None:
    time = MovableClock()
    link = genesis(time.moment())
    for seconds, epoch in ((0, 0), (59, 0), (60, 1), (60 * 60, 60)):
        assert next_epoch(link, Moment(NOON + seconds * SECOND, seconds * SECOND, time.boot), FOUNDED) == epoch


def test_a_clock_that_is_set_back_does_not_stop_the_keys() -> None:
    time = MovableClock()
    moments = []
    time.advance(600)
    for _ in range(10):
        moments.append(time.moment())
        time.advance(30)
    time.set_by(-3600)
    for _ in range(10):
        moments.append(time.moment())
        time.advance(30)
    time.reboot()
    time.advance(60)
    moments.append(time.moment())
    _, links = grow(moments)
    epochs = [link.epoch for link in links]
    assert epochs == sorted(epochs)
    assert epochs[9] == 14 and epochs[19] == 19 and epochs[20] == 20


def test_a_jump_of_decades_is_followed_step_by_step() -> None:
    link = genesis(Moment(NOON, 0, "b"))
    far = Moment(NOON + 20 * EVOLUTION_MAX * MINUTE, 0, "b")
    first = next_epoch(link, far, FOUNDED)
    assert first == EVOLUTION_MAX
    link = follow(link, far, first, b"")
    assert next_epoch(link, far, FOUNDED) == 2 * EVOLUTION_MAX


def test_what_the_log_witnesses() -> None:
    time = MovableClock()
    link = genesis(time.moment())

    def witnessed() -> int:
        nonlocal link
        before = link.witnessed
        link = follow(link, time.moment(), 0, b"")
        return (link.witnessed - before) // SECOND

    time.advance(100)
    assert witnessed() == 100
    time.set_by(365 * 86_400)  # a clock that is set makes nothing older
    assert witnessed() == 0
    time.advance(10)
    assert witnessed() == 10
    time.reboot()
    time.set_by(3600)
    assert witnessed() == 3600
    time.reboot()
    time.set_by(30 * 86_400)
    assert witnessed() == UNWITNESSED_MAX // SECOND
    time.reboot()
    time.set_by(-30 * 86_400)
    assert witnessed() == 0


steps = st.lists(
    st.tuples(st.sampled_from(["advance", "set_by", "reboot"]), st.integers(-20_000, 20_000)), min_size=1, max_size=15
)


def moments_of(steps: list[tuple[str, int]]) -> list[Moment]:
    time = MovableClock()
    moments = [time.moment()]
    for kind, seconds in steps:
        if kind == "advance":
            time.advance(abs(seconds) % 300)
        elif kind == "set_by":
            time.set_by(seconds)
        else:
            time.reboot()
        moments.append(time.moment())
    return moments


@given(steps)
def test_whatever_the_clocks_do_the_chain_verifies(steps: list[tuple[str, int]]) -> None:
    lines, links = grow(moments_of(steps))
    walker = Walker(genesis(Moment(0, 0, "")), FOUNDED, K0)
    for line, link in zip(lines, links, strict=True):
        assert walker.step(line) is None
        assert walker.link == link
    assert walker.checked == len(lines)


@given(steps, st.data())
def test_no_old_record_can_be_made_with_a_later_key(steps: list[tuple[str, int]], data: st.DataObject) -> None:
    """Who holds K(e) can write no record into the chain at a place whose times demand an earlier key."""
    moments = moments_of(steps)
    _, links = grow(moments)
    place = data.draw(st.integers(0, len(links) - 1))
    later = links[place].epoch + data.draw(st.integers(1, 1000))
    stolen = K0.at(later)
    before = links[place - 1] if place else genesis(moments[0])
    forged = forged_line(before, stolen, moments[place])
    walker = Walker(before, FOUNDED, K0.at(before.epoch))
    assert walker.step(forged) is not None


def forged_line(link: Link, key: EpochKey, moment: Moment) -> bytes:
    body = encode_body(event(), seq=link.seq + 1, moment=moment, epoch=key.epoch, prev=link.head)
    return join_line(body, key.mac(body))
