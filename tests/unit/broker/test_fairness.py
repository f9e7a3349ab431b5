"""The order of the queue: who is next, for how long others may be, and that all get there."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.broker.crowd import SIZE, Crowd, Grant
from zerokernel.broker.scheduling import Account, Policy, order
from zerokernel.broker.scheduling.order import Turn
from zerokernel.broker.scheduling.records import Request

ADA, BOB, EVE = Account("ada"), Account("bob"), Account("eve", tier="pro")
# Small numbers, so that random lives pass the bound many times.
QUICK = Policy(
    half_life=20.0, unnoticed_use=1.0, longest_delay=10.0, short_bonus=5.0, short_limit=2
)
SPREAD = QUICK.longest_delay + QUICK.short_bonus
ACCOUNTS = (
    Account("a", "g"),
    Account("b", "g", "pro"),
    Account("c", "g"),
    Account("d", "h"),
    Account("e", "h", "enterprise"),
    Account("f"),
    Account("g"),  # called as a group is
)

durations = st.sampled_from([0.1, 1.0, 2.0, 30.0])
Step = tuple[str, object, float]
one_step = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(ACCOUNTS), durations),
    st.tuples(st.just("serve"), st.just(None), st.just(0.0)),
    st.tuples(st.just("end"), st.integers(0, 5), st.sampled_from([0.0, 0.5, 30.0])),
    st.tuples(st.just("wait"), st.just(None), st.sampled_from([0.0, 0.3, 2.0, 8.0, 25.0, -40.0])),
)


def busy_life(seed: int) -> list[Step]:
    """A long life in which some users ask again and again and a slice is free now and then."""
    chance = random.Random(seed)
    eager = chance.sample(ACCOUNTS, chance.randint(1, len(ACCOUNTS)))
    steps: list[Step] = []
    for _ in range(100):
        for _ in range(chance.randint(0, 3)):
            steps.append(("ask", chance.choice(eager), chance.choice([0.1, 1.0, 2.0, 30.0])))
        if chance.random() < 0.1:
            steps.append(("ask", chance.choice(ACCOUNTS), 1.0))
        steps.append(("serve", None, 0.0))
        steps.append(("wait", None, chance.choice([0.0, 0.3, 1.0, 2.0, -3.0])))
        steps.append(("end", 0, chance.choice([0.0, 0.5, 2.0, 30.0])))
    return steps


lives = st.one_of(st.lists(one_step, max_size=80), st.integers(0, 1 << 32).map(busy_life))


class Watched(Crowd):
    """A crowd in which it is known since when each request is the first of its user."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.first_since: dict[str, float] = {}

    def does(self, what: str, who: object, number: float) -> None:
        match what, who:
            case "ask", Account() as account:
                self.asks(account, number)
            case "serve", _:
                self.serves()
            case "end", int(index) if self.leases:
                self.ends(self.leases[index % len(self.leases)], number)
            case "wait", _:
                self.pass_time(number)
        seen: set[str] = set()
        for request in self.waiting():
            if request.session.user not in seen:
                seen.add(request.session.user)
                self.first_since.setdefault(request.id, self.now)

    def waiting(self) -> list[Request]:
        """Gives all who wait, as they came."""
        return sorted(self.queue._requests.values(), key=lambda one: one.arrival)

    def overtaken(self, request: Request) -> Iterable[Grant]:
        """Gives what was granted to others since a request was the first of its user."""
        for grant in self.grants:
            if grant.request is request:
                return
            if grant.at >= self.first_since[request.id]:
                yield grant


@given(lives)
@settings(max_examples=50, deadline=None)
def test_after_the_bound_nobody_is_ahead_twice(steps: list[Step]) -> None:
    """Whatever others do and the clock shows, a request is overtaken for a computed time only.

    From then on each other user of its group is served at most once before it; and between
    two that are served of its group, each other group at most once after twice that time.
    """
    crowd = Watched(QUICK)
    for step in steps:
        crowd.does(*step)
    everybody = {one.id: one for one in [*(g.request for g in crowd.grants), *crowd.waiting()]}
    for name, since in crowd.first_since.items():
        request = everybody[name]
        account = request.session.account
        mates: Counter[str] = Counter()
        others: Counter[tuple[str, str]] = Counter()
        from_then = since
        for grant in crowd.overtaken(request):
            other = grant.request.session.account
            if other.party == account.party:
                mates[other.user] += grant.at > since + SPREAD
                others.clear()
                from_then = grant.at
            else:
                bound = SPREAD if not account.group else 2 * SPREAD
                others[other.party] += grant.at > from_then + bound
        assert all(count <= 1 for count in mates.values()), (name, mates)
        assert all(count <= 1 for count in others.values()), (name, others)


@given(lives, st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_the_next_is_the_one_whom_the_formula_names(steps: list[Step], most: int) -> None:
    """At any time the structure gives who is least by `order.key`, computed anew for all."""
    policy = Policy(half_life=4.0, unnoticed_use=1.0, longest_delay=10.0, leases_per_user=most)
    crowd = Plain(policy)
    for number, step in enumerate(steps):
        crowd.does(*step)
        assert crowd.queue.first(SIZE) is crowd.next_by_formula()
        if number % 8:
            continue
        listed = crowd.queue.in_order(SIZE)
        assert len({one.id for one in listed}) == len(listed) == len(crowd.queue)
        if listed and not most:
            assert listed[0] is crowd.queue.first(SIZE), "who is told to be the first is"
        by_user: dict[str, list[int]] = {}
        for one in listed:
            by_user.setdefault(one.session.user, []).append(one.arrival)
        assert all(some == sorted(some) for some in by_user.values()), "in turn within a user"


class Plain(Watched):
    """Who is next, found by looking at everybody; what was served is kept in plain tables."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.served: dict[tuple[str, str], float] = {}

    def serves(self) -> None:
        before = len(self.grants)
        super().serves()
        for grant in self.grants[before:]:
            account = grant.request.session.account
            self.served[account.party] = self.served["user", account.user] = self.now

    def next_by_formula(self) -> Request | None:
        policy, standings = self.queue.policy, self.queue.standings
        first: dict[Account, Request] = {}
        for one in self.waiting():
            if standings.user_may_lease(one.session.account):
                first.setdefault(one.session.account, one)
        candidates: dict[tuple[str, str], Request] = {}
        for account, one in first.items():
            best = candidates.get(account.party)
            if best is None or self.key(one, False) < self.key(best, False):
                candidates[account.party] = one
        assert policy is standings.policy
        return min(candidates.values(), key=lambda one: self.key(one, True), default=None)

    def key(self, request: Request, with_group: bool) -> order.Key:
        account, policy = request.session.account, self.queue.policy
        standings = self.queue.standings
        own, party = ("user", account.user), account.party
        user = Turn(self.served.get(own, -math.inf), standings.user(account).fades(policy))
        group = Turn(self.served.get(party, -math.inf), standings.group(account).fades(policy))
        return order.key(request, user, group if with_group else user, policy)


@given(
    st.floats(0, 1e4),
    st.floats(0, 1e5),
    st.sampled_from([1.0, 60.0, 600.0, 86_400.0]),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
def test_time_shifts_all_keys_alike(
    since: float, used: float, duration: float, later: float, age: float
) -> None:
    """What happens all the same, but later, has the same order; and use that only fades has too.

    A key so needs no touching while time goes by.
    """
    policy = Policy()
    crowd = Crowd(policy)
    request = crowd.asks(ADA, duration)

    def key(shift: float, looked_at_after: float) -> float:
        request.since = since + shift
        standing = type(crowd.queue.standings.user(ADA))(used=used, at=since + shift)
        standing.count(0.0, since + shift + looked_at_after, policy)
        turn = Turn(-math.inf, standing.fades(policy))
        return order.key(request, turn, turn, policy)[2]

    assert key(later, 0.0) - key(0.0, 0.0) == pytest.approx(later, abs=1e-3)
    if age < 100 * policy.half_life:
        assert key(0.0, age) == pytest.approx(key(0.0, 0.0), abs=1e-3)


@given(st.floats(0, 1e9), st.floats(1e-3, 1e7))
def test_a_delay_is_bounded(used: float, duration: float) -> None:
    """A request stands nowhere but between the bonus before and the delay after its arrival."""
    policy = Policy()
    request = Crowd(policy).asks(ADA, duration)
    request.since = 1000.0
    standing = type(Crowd().queue.standings.user(ADA))(used=used, at=1000.0)
    turn = Turn(-math.inf, standing.fades(policy))
    stands = order.key(request, turn, turn, policy)[2]
    assert 1000.0 - policy.short_bonus <= stands <= 1000.0 + policy.longest_delay


# --- shares ------------------------------------------------------------------------------


def test_many_notebooks_gain_nothing() -> None:
    """A user with twenty requests in the queue has the time of one who has one."""
    crowd = Crowd()
    for _ in range(20):
        crowd.asks(ADA)
    crowd.asks(BOB)
    crowd.serves_in_turn(7200)
    assert crowd.used("ada") == pytest.approx(crowd.used("bob"), rel=0.05)


def test_many_short_cells_gain_nothing() -> None:
    """Cells of 5 s against cells of 60 s: the time is shared alike, not the turns."""
    crowd = Crowd()
    for _ in range(30):
        crowd.asks(ADA, 5.0)
    crowd.asks(BOB, 60.0)
    crowd.serves_in_turn(4 * 3600)
    assert crowd.used("ada") == pytest.approx(crowd.used("bob"), rel=0.25)


def test_many_users_of_a_group_gain_nothing() -> None:
    """Ten members of a group together have the time of one user who has none."""
    crowd = Crowd()
    for number in range(10):
        crowd.asks(Account(f"member {number}", "lab"))
    crowd.asks(BOB)
    crowd.serves_in_turn(7200)
    members = [crowd.used(f"member {number}") for number in range(10)]
    assert sum(members) == pytest.approx(crowd.used("bob"), rel=0.1)
    assert max(members) - min(members) <= 60.0, "and share it alike"


def test_weight_is_a_share() -> None:
    """Where both always want more, weight 2 has twice the time of weight 1."""
    crowd = Crowd()
    crowd.asks(Account("ada", tier="free"))
    crowd.asks(Account("eve", tier="pro"))
    crowd.serves_in_turn(4 * 3600)
    assert crowd.used("eve") / crowd.used("ada") == pytest.approx(2.0, rel=0.15)


def test_a_larger_size_counts_more() -> None:
    """A second on a slice that counts double is two seconds of use."""
    plain, double = Crowd(), Crowd(Policy(size_factors={SIZE: 2.0}))
    for crowd in (plain, double):
        crowd.asks(ADA, 120.0)
        crowd.serves()
    used = [one.queue.standings.user(ADA).used_by(0.0, Policy()) for one in (plain, double)]
    assert used == [120.0, 240.0]


# --- one against another -----------------------------------------------------------------


def test_less_recent_use_is_first() -> None:
    """Who came later but used less of late is next, until the use has faded."""
    crowd = Crowd()
    for _ in range(2):
        crowd.asks(ADA, 600.0)
        lease = crowd.serves()
        assert lease is not None
        crowd.ends(lease, 600.0)
    first = crowd.asks(ADA)
    crowd.pass_time(10.0)
    second = crowd.asks(BOB)
    assert crowd.queue.in_order(SIZE) == [second, first]
    crowd.pass_time(7 * 3600)
    third = crowd.asks(EVE)
    assert crowd.queue.in_order(SIZE) == [second, first, third]


def test_what_was_not_used_does_not_count() -> None:
    """A limit counts while the cell runs; after it, what it used."""
    crowd = Crowd()
    crowd.asks(ADA, 600.0)
    lease = crowd.serves()
    assert lease is not None
    crowd.pass_time(5.0)
    standing = crowd.queue.standings.user(ADA)
    assert standing.used_by(5.0, Policy()) == pytest.approx(600.0, rel=0.01)
    crowd.ends(lease, 5.0)
    assert standing.used_by(5.0, Policy()) == pytest.approx(5.0)
    assert standing.leases == 0


def test_the_shorter_is_first_but_only_so_far() -> None:
    """A short request passes a long one that came a little before, and no other."""
    crowd = Crowd()
    long = crowd.asks(ADA, 600.0)
    crowd.pass_time(60.0)
    short = crowd.asks(BOB, 5.0)
    assert crowd.queue.in_order(SIZE) == [short, long]
    late = Crowd()
    long = late.asks(ADA, 600.0)
    late.pass_time(late.queue.policy.short_bonus)
    short = late.asks(BOB, 5.0)
    assert late.queue.in_order(SIZE) == [long, short]


def test_within_a_user_it_is_first_come_first_served() -> None:
    """One user's requests are in the order in which they came, whatever their limits."""
    crowd = Crowd()
    chance = random.Random(7)
    asked = []
    for _ in range(50):
        asked.append(crowd.asks(ADA, chance.choice([1.0, 60.0, 600.0])))
        crowd.pass_time(chance.choice([0.0, 3.0]))
    assert crowd.queue.in_order(SIZE) == asked
    served = [lease.request for lease in iter(crowd.serves, None) if lease is not None]
    assert served == asked


def test_beyond_quota_is_behind_all_that_is_within() -> None:
    """It waits until nobody within quota does, and is in turn again once it is within."""
    crowd = Crowd()
    beyond = crowd.asks(ADA)
    crowd.queue.set_beyond_quota(beyond, True)
    crowd.pass_time(86_400.0)
    within = crowd.asks(BOB)
    assert crowd.queue.in_order(SIZE) == [within, beyond]
    crowd.queue.set_beyond_quota(beyond, False)
    assert crowd.queue.in_order(SIZE) == [beyond, within]


def test_strict_tiers_are_walls() -> None:
    """A tier of more weight goes first however long the other waits, where that is set."""
    for strict, expected in ((True, ["eve", "ada"]), (False, ["ada", "eve"])):
        crowd = Crowd(Policy(strict_tiers=strict))
        crowd.asks(Account("ada", tier="free"))
        crowd.pass_time(86_400.0)
        crowd.asks(EVE)
        served = [one.request.session.user for one in iter(crowd.serves, None) if one]
        assert served == expected


def test_the_clock_never_takes_back_what_was_waited() -> None:
    """Where the machine's clock jumps back, waiting goes on from where it was."""
    crowd = Crowd()
    crowd.asks(ADA)
    crowd.pass_time(100.0)
    crowd.pass_time(-5000.0)
    crowd.pass_time(50.0)
    assert crowd.now == 150.0


def test_who_is_long_gone_is_forgotten() -> None:
    """The books of recent use do not grow with everybody who was ever there."""
    crowd = Crowd()
    for number in range(5000):
        crowd.asks(Account(f"user {number}"), 1.0)
        lease = crowd.serves()
        assert lease is not None
        crowd.ends(lease, 1.0)
        crowd.pass_time(60.0)
    assert len(crowd.queue.standings._all) <= 1000


@pytest.mark.parametrize(
    "numbers", [{"half_life": 0.0}, {"unnoticed_use": -1.0}, {"tiers": {"free": 0.0}}]
)
def test_a_policy_without_an_order_is_refused(numbers: dict[str, Any]) -> None:
    """Numbers by which nothing can be ordered are refused by name, before anybody waits."""
    with pytest.raises(ValueError, match=r"half_life|unnoticed_use|'free'"):
        Policy(**numbers)
