"""How far the CPU runs ahead of a device, with marks and a clock of our own."""

from collections.abc import Hashable

from services.generator.sdxl.device_sync import DeviceSync


class Device:
    """Does one step after the other, `seconds` each; a mark knows when it will be reached."""

    def __init__(self) -> None:
        self.now = 0.0
        self.end = 0.0
        self.pace = DeviceSync(lambda: self.now)

    def launch(self, seconds: float, kind: Hashable = "kind") -> "DeviceEvent":
        self.end = max(self.now, self.end) + seconds
        mark = DeviceEvent(self, self.end)
        self.pace.launched(mark, kind)
        return mark

    def learn(self, seconds: float) -> None:
        """A few steps, so that the pace knows how long they take."""
        for _ in range(3):
            self.launch(seconds)
            self.pace.wait()


class DeviceEvent:
    def __init__(self, device: Device, at: float) -> None:
        self.device = device
        self.at = at

    def query(self) -> bool:
        return self.device.now >= self.at

    def synchronize(self) -> None:
        self.device.now = max(self.device.now, self.at)


def test_long_steps_are_waited_for_one_by_one() -> None:
    device = Device()
    device.launch(1.0)
    device.pace.wait()  # no time is known yet
    device.launch(1.0)
    device.pace.wait()
    assert device.now >= 1.0
    mark = device.launch(1.0)
    device.pace.wait()
    assert mark.query()


def test_of_short_steps_one_may_still_be_running() -> None:
    device = Device()
    marks = []
    for _ in range(10):
        marks.append(device.launch(0.01))
        device.pace.wait()
        assert all(mark.query() for mark in marks[:-1])
    assert not marks[-1].query()
    assert device.pace.remaining_seconds() == 0


def test_short_steps_are_known_as_such_though_each_is_launched_early() -> None:
    """From its launch, such a step takes twice as long as it is at work."""
    device = Device()
    for _ in range(10):
        device.launch(0.015)
        device.pace.wait()
    mark = device.launch(0.015)
    device.pace.wait()
    assert not mark.query()


def test_what_remains_is_known_from_the_steps_before() -> None:
    device = Device()
    device.learn(1.0)
    begin = device.now
    device.launch(1.0)
    assert 0.8 < device.pace.remaining_seconds() < 1.0
    device.now = begin + 0.5
    assert 0.3 < device.pace.remaining_seconds() < 0.5
    device.now = begin + 0.95
    assert device.pace.remaining_seconds() == 0
    device.pace.wait()
    assert device.now == begin + 1.0


def test_a_step_shorter_than_those_before_ends_the_wait() -> None:
    device = Device()
    device.learn(1.0)
    begin = device.now
    device.launch(0.1)
    device.now = begin + 0.2
    assert device.pace.remaining_seconds() == 0


def test_kinds_are_told_apart_and_not_hoarded() -> None:
    device = Device()
    for number in range(3000):
        device.launch(1.0, number)
        device.pace.wait()
    device.launch(1.0, "new")
    assert device.pace.remaining_seconds() == 0
    assert len(device.pace._seconds) <= 1000
