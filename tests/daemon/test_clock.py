"""RELIABILITY bar 35: the wall clock jumps by an hour, forth and back, and no timer notices."""

import signal
import time
import unittest

import faults
from relay import KIB, RelayCase, patience, pump

HOUR = 3600
SCRIPT = """
event_route["evapi:message-received"] = function(evapi)
  if evapi.msg == "loop" then while true do end end
  local sum = 0
  for i = 1, 200000 do sum = sum + i % 7 end
  evapi.reply("done")
end
"""


class ClockSteps(RelayCase):
    def setUp(self):
        if faults.CALLS is None:
            self.skipTest("sanitizers cannot be preloaded with another clock")
        self.board = faults.Board()
        self.addCleanup(self.board.close)

    def start_with_clock(self, **config):
        return self.start(env=self.board.environment(faults.CALLS), lua=SCRIPT, **config)

    def steps(self):
        """Forth, back to what is right, back, and right again."""
        for step in (HOUR, 0, -HOUR, 0):
            yield step

    def test_bar_35_the_clock_of_the_log_is_the_one_that_steps(self):
        """So that the other tests step what evrelay looks at."""
        relay = self.start_with_clock()
        hours = []
        for step in self.steps():
            self.board.set_clock(step)
            line = relay.reload().splitlines()[-1]
            seconds = time.mktime(time.strptime(line[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
            hours.append(round((seconds - time.time()) / HOUR))
        self.assertEqual(hours, [1, 0, -1, 0])

    def test_bar_35_requests_expire_when_they_should(self):
        relay = self.start_with_clock()
        subscriber = relay.subscriber()
        producer = relay.producer()
        for step in self.steps():
            with self.subTest(step):
                began = time.monotonic()
                numbers = producer.suspend("async_relay", "ask", 500)
                self.board.set_clock(step)
                # It goes round, so that its loop sees what time it is.
                relay.turn()
                self.assertEqual(producer.next_answer(), [b"expired", *numbers])
                took = time.monotonic() - began
                self.assertGreaterEqual(took, 0.49)
                self.assertLess(took, patience(5))
        subscriber.expect(*[b"ask"] * 4)

    def test_bar_35_hooks_have_their_time(self):
        relay = self.start_with_clock(hook={"timeout": "300ms"})
        subscriber = relay.subscriber()
        for step in self.steps():
            with self.subTest(step):
                began = time.monotonic()
                subscriber.send(b"4:loop,")
                subscriber.flush()
                self.board.set_clock(step)
                failed = relay.status()["hook"]["failed"]["timeout"]
                relay.wait_status(
                    lambda s, n=failed: s["hook"]["failed"]["timeout"] > n, "it is stopped"
                )
                self.assertGreaterEqual(time.monotonic() - began, 0.29)
                subscriber.send(b"4:work,")
                subscriber.expect(b"done")

    def test_bar_35_nobody_is_closed(self):
        """Neither one that has sent half a frame, nor one that stalls, nor the idle."""
        relay = self.start_with_clock(
            send_buffer="16KiB",
            max_event="64KiB",
            slow_subscriber={"max_lag": "256KiB", "policy": "block", "stall_timeout": "1min"},
        )
        half, idle = relay.subscribers(2)
        half.send(b"9:half")
        half.flush()
        stalled = relay.subscriber(receive_buffer=4 * KIB)
        stalled.paused = True
        producer = relay.producer()
        producer.send(b"1000:" + b"x" * 1000 + b",")
        producer.outgoing += (b"1000:" + b"x" * 1000 + b",") * 2000
        pump([producer, idle, half], lambda: relay.status()["loop"]["holds"] > 0)
        for step in self.steps():
            self.board.set_clock(step)
            until = time.monotonic() + 0.2
            pump([idle, half], lambda until=until: time.monotonic() > until)
            status = relay.status()
            self.assertEqual(sum(status["subscribers"]["closed"].values()), 0, status)
        self.assertEqual(status["subscribers"]["live"], 3)

    def test_bar_35_a_drain_takes_its_time(self):
        for step in (HOUR, -HOUR):
            with self.subTest(step):
                self.board.set_clock(0)
                relay = self.start_with_clock(drain="1s", send_buffer="4KiB")
                stalled = relay.subscriber(receive_buffer=4 * KIB)
                stalled.paused = True
                producer = relay.producer()
                producer.relay(*[b"x" * 60_000] * 20)
                producer.ping()
                began = time.monotonic()
                relay.signal(signal.SIGTERM)
                relay.wait_status(lambda s: s["state"] != "running", "it drains")
                self.board.set_clock(step)
                self.assertEqual(relay.wait(), 0)
                took = time.monotonic() - began
                self.assertGreater(took, 0.9)
                self.assertLess(took, patience(5))

    def test_bar_35_an_idle_relay_does_not_wake(self):
        relay = self.start_with_clock()
        relay.subscriber()
        turns = relay.status()["loop"]["turns"]
        for step in self.steps():
            self.board.set_clock(step)
            until = time.monotonic() + 0.2
            pump([], lambda until=until: time.monotonic() > until)
        self.assertLess(relay.status()["loop"]["turns"] - turns, 20)


if __name__ == "__main__":
    unittest.main()
