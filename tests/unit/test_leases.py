"""Who is alive and who holds the lease, under every schedule that Hypothesis can think of."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from jupyter_teleportal.core.leases import Lease, Membership
from jupyter_teleportal.core.values import LeaseView

TTL_S, MARGIN_S = 6.0, 1.0


@dataclass
class LeaseServer:
    """The lease as the transport's other side keeps it, by its own clock."""

    holder: str | None = None
    until: float = 0.0
    fence: int = 0

    def serve(self, replica: str, want: bool, now: float) -> LeaseView:
        if self.until <= now:
            self.holder = None
        if self.holder is None and want:
            self.holder = replica
            self.fence += 1
        if self.holder == replica:
            if want:
                self.until = now + TTL_S
            else:
                self.holder = None
        return LeaseView(self.holder, self.fence if self.holder else 0, None, "0-0")


@dataclass
class Site:
    """A replica with a clock that runs a little too fast or too slow."""

    name: str
    rate: float
    lease: Lease = field(init=False)
    served: int = 0
    asked: int = 0
    gave_back_at: float = float("-inf")
    believed_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.lease = Lease(self.name, TTL_S, MARGIN_S)

    def clock(self, now: float) -> float:
        return now * self.rate + 1000

    def holds(self, now: float) -> bool:
        """Whether the replica acts as the holder: not once it has said that it gives it back,
        until it has asked for it again and got it."""
        return self.lease.held(self.clock(now)) and self.believed_at > self.gave_back_at


@dataclass(frozen=True, eq=False)
class Request:
    site: Site
    number: int
    want: bool
    asked_at: float


@dataclass(frozen=True, eq=False)
class Answer:
    site: Site
    view: LeaseView
    asked_at: float


class LeaseMachine(RuleBasedStateMachine):
    """Several replicas want one lease. A request may be served long after it was asked, and its
    answer may come long after that, in any order, or never."""

    sites = Bundle("sites")
    requests = Bundle("requests")
    answers = Bundle("answers")

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.server = LeaseServer()
        self.all: list[Site] = []

    @rule(target=sites, rate=st.sampled_from([0.9, 1.0, 1.1]))
    def a_replica_starts(self, rate: float) -> Site:
        site = Site(f"r{len(self.all)}", rate)
        self.all.append(site)
        return site

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 1, 2, 4.9, 5, 6, 7]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=requests, site=sites, want=st.sampled_from([True, True, True, False]))
    def ask(self, site: Site, want: bool) -> Request:
        self.now += 0.001
        site.asked += 1
        if not want:
            site.gave_back_at = site.clock(self.now)
        return Request(site, site.asked, want, site.clock(self.now))

    @rule(target=answers, request=consumes(requests))
    def serve(self, request: Request) -> Answer:
        site = request.site
        if request.want or request.number > site.served:
            view = self.server.serve(site.name, request.want, self.now)
        else:
            # What gives the lease back must not come after what takes it: one connection.
            view = LeaseView(self.server.holder, self.server.fence, None, "0-0")
        site.served = max(site.served, request.number)
        return Answer(site, view, request.asked_at)

    @rule(request=consumes(requests))
    def lose_request(self, request: Request) -> None:
        pass

    @rule(answer=consumes(answers))
    def lose_answer(self, answer: Answer) -> None:
        pass

    @rule(answer=consumes(answers))
    def answer(self, answer: Answer) -> None:
        answer.site.believed_at = max(answer.site.believed_at, answer.asked_at)
        lease = answer.site.lease
        before = lease.holder, lease.fence
        changed = lease.observed(answer.view, answer.asked_at)
        assert changed == (before != (lease.holder, lease.fence))

    @rule(site=sites)
    def round_trip(self, site: Site) -> None:
        """Nothing delayed and nothing lost."""
        request = self.ask(site, True)
        self.answer(self.serve(request))
        if self.server.holder == site.name:
            assert site.holds(self.now)
            assert site.lease.own_last
            assert site.lease.fence == self.server.fence
        else:
            assert not site.holds(self.now)
            assert site.lease.holder == self.server.holder

    @invariant()
    def at_most_one_holds(self) -> None:
        if not hasattr(self, "all"):
            return
        holders = [site.name for site in self.all if site.holds(self.now)]
        assert len(holders) <= 1
        if holders and self.server.until > self.now:
            assert holders == [self.server.holder]


LeaseMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, print_blob=True, deadline=None
)
TestLease = LeaseMachine.TestCase


def test_a_lease_counts_from_when_it_was_asked_for() -> None:
    lease = Lease("a", TTL_S, MARGIN_S)
    assert not lease.held(0)
    assert lease.observed(LeaseView("a", 1, None, "0-0"), asked_at=100)
    assert lease.held(104.9)
    assert not lease.held(105)
    assert not lease.observed(LeaseView("a", 1, None, "0-0"), asked_at=102)
    assert lease.held(106.9)


def test_a_lease_that_somebody_else_took_in_between_changed_hands() -> None:
    lease = Lease("a", TTL_S, MARGIN_S)
    lease.observed(LeaseView("a", 1, None, "0-0"), asked_at=0)
    # The same holder, but b held it in between: its fence has grown.
    assert lease.observed(LeaseView("a", 3, None, "0-0"), asked_at=20)


def test_an_answer_that_was_overtaken_is_not_believed() -> None:
    lease = Lease("a", TTL_S, MARGIN_S)
    lease.observed(LeaseView(None, 1, None, "0-0"), asked_at=2)  # given back
    lease.observed(LeaseView("a", 1, None, "0-0"), asked_at=1)
    assert not lease.held(2.5)
    assert not lease.own_last


def test_a_holder_that_is_not_alive_has_abandoned_its_lease() -> None:
    lease = Lease("a", TTL_S, MARGIN_S)
    lease.observed(LeaseView("ghost", 1, None, "0-0"), asked_at=0)
    assert not lease.abandoned({"a"}, 0)
    assert not lease.abandoned({"a"}, 2 * TTL_S)
    assert lease.abandoned({"a"}, 2 * TTL_S + 0.1)
    # It was there all the time, and its heartbeat was late.
    assert not lease.abandoned({"a", "ghost"}, 100)
    assert not lease.abandoned({"a"}, 101)
    lease.observed(LeaseView("a", 2, None, "0-0"), asked_at=102)
    assert not lease.abandoned({"a"}, 200)


names = st.sampled_from(["own", "a", "b", "c"])
ages = st.dictionaries(names, st.floats(0, 20), max_size=4)


@given(st.lists(ages, max_size=20))
def test_joined_and_left_add_up_to_who_is_alive(views: list[dict[str, float]]) -> None:
    membership = Membership("own", dead_after_s=6)
    present: set[str] = set()
    for view in views:
        joined, left = membership.observed(view)
        assert "own" not in joined | left
        assert not joined & present
        assert left <= present
        present = (present | joined) - left
        assert membership.alive == present | {"own"}
        assert present == {name for name, age in view.items() if age <= 6} - {"own"}


def test_a_replica_whose_heartbeat_stops_leaves_once_and_can_come_back() -> None:
    membership = Membership("own", dead_after_s=6)
    assert membership.observed({"own": 0, "a": 0}) == ({"a"}, set())
    assert membership.observed({"own": 0, "a": 6}) == (set(), set())
    assert membership.observed({"own": 30, "a": 6.1}) == (set(), {"a"})
    assert membership.alive == {"own"}
    assert membership.observed({"own": 0, "a": 8}) == (set(), set())
    assert membership.observed({"a": 0}) == ({"a"}, set())
    assert membership.observed({}) == (set(), {"a"})


def test_who_was_last_is_remembered_when_the_transport_forgets() -> None:
    lease = Lease("a", ttl_s=6, margin_s=1)
    assert lease.last_holder is None
    lease.observed(LeaseView("b", 3, None, "0-0"), 0)
    lease.observed(LeaseView(None, 0, None, "0-0"), 1)
    assert (lease.holder, lease.last_holder) == (None, "b")
    lease.released()
    assert lease.last_holder is None
    lease.observed(LeaseView("a", 1, None, "0-0"), 2)
    lease.observed(LeaseView(None, 0, None, "0-0"), 3)
    assert lease.own_last
    lease.observed(LeaseView("b", 1, None, "0-0"), 4)
    assert not lease.own_last
