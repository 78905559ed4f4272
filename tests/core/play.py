"""Stories of a session, line by line: what it hears, and what it orders then.

    Play().hears(token(1)).orders(Dial(1)).hears(LinkOpened(1)).orders(Adopt(1), ...)

Links and tickets are numbered 1, 2, 3 in the order of their use.  What is told
to observers is checked apart, by `tells`: stories are about deeds.
"""

from itertools import zip_longest

from dromos._core import commands as do
from dromos._core import events as heard
from dromos._core.policy import Moment, Policy
from dromos._core.schedule import Lease, lease
from dromos._core.session import decide, start, wake_at
from dromos._core.states import Open, State
from dromos._core.turns import Turns
from dromos.events import BridgeEvent

WALL = 1_795_402_541.0


class Play:
    """A session on a stage.

    Attributes:
        state: Where it is now.
        now: Seconds since the beginning, which is also the monotonic time.
        told: What the last decision announced.
        turns: Those of its group, or None.
    """

    def __init__(
        self, policy: Policy | None = None, *, roll: float = 0.5, turns: Turns | None = None
    ) -> None:
        self.policy = policy or Policy()
        self.turns = turns
        self.now = 0.0
        self._roll = roll
        self._skew = 0.0
        self._link = self._ticket = 1
        self.state: State
        self.state, commands = start(self._moment())
        self._obey(commands)

    # What happens

    def after(self, seconds: float) -> "Play":
        """Let time pass."""
        self.now += seconds
        return self

    def asleep(self, seconds: float) -> "Play":
        """Let the machine sleep: the wall clock goes on, the monotonic one does not."""
        self._skew += seconds
        return self

    def until_due(self) -> "Play":
        """Let time pass until the timer is due, and fire it."""
        due = wake_at(self.state, self.policy, self._moment())
        assert due is not None, f"nothing is due in {self.state}"
        self.now = max(self.now, due)
        return self.hears(heard.TimerFired())

    def hears(self, event: heard.Event) -> "Play":
        """Tell the session what has happened."""
        self.state, commands = decide(self.policy, self.state, event, self._moment())
        self._obey(commands)
        return self

    def obtains(
        self, generation: int, *, life: float | None = 3600.0, told: float | None = None
    ) -> "Play":
        """Answer the last question with this token."""
        held = self.lease(generation, life=life, told=told)
        return self.hears(heard.TokenObtained(self._ticket - 1, held))

    def gets_no_token(self, error: Exception) -> "Play":
        """Answer the last question with a failure."""
        return self.hears(heard.TokenFailed(self._ticket - 1, error))

    # What is expected

    def orders(self, *commands: do.Command) -> "Play":
        """Expect exactly these commands, in this order, of the last decision."""
        assert commands == self._orders
        return self

    def tells(self, *news: BridgeEvent | type[BridgeEvent]) -> "Play":
        """Expect these announcements of the last decision, each whole or by its kind."""
        told = tuple(
            type(each) if isinstance(wanted, type) else each
            for wanted, each in zip_longest(news, self.told)
        )
        assert news == told
        return self

    def is_in(self, kind: type) -> "Play":
        """Expect to be in this state, or, while a link is open, at this step."""
        place = self.state.step if isinstance(self.state, Open) else self.state
        assert isinstance(place, kind) or isinstance(self.state, kind), self.state
        return self

    def waits(self, seconds: float) -> "Play":
        """Expect the timer in so many seconds."""
        due = wake_at(self.state, self.policy, self._moment())
        assert due is not None
        assert abs(due - self.now - seconds) < 1e-6, due - self.now
        return self

    # Behind the stage

    def lease(
        self, generation: int, *, life: float | None = 3600.0, told: float | None = None
    ) -> Lease:
        """A token that is first seen now, and was issued for `told` seconds, if that is said."""
        wall = self._moment().wall
        return lease(
            generation=generation,
            expires_wall=None if life is None else wall + life,
            lifetime=told,
            now=self.now,
            wall=wall,
        )

    def _moment(self) -> Moment:
        return Moment(
            now=self.now,
            wall=WALL + self.now + self._skew,
            roll=self._roll,
            link=self._link,
            ticket=self._ticket,
            turn=None if self.turns is None else self.turns.next(self.now),
        )

    def _obey(self, commands: tuple[do.Command, ...]) -> None:
        self._orders = tuple(each for each in commands if not isinstance(each, do.Announce))
        self.told = tuple(each.event for each in commands if isinstance(each, do.Announce))
        self._link += sum(isinstance(each, do.Dial) for each in commands)
        self._ticket += sum(isinstance(each, do.Authorize) for each in commands)
        for each in commands:
            if isinstance(each, do.TakeTurn | do.StandInLine | do.LeaveLine):
                assert self.turns is not None
                self.turns = self.turns.after(each)
