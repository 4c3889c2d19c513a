"""A connection's life with a script: admission, the end and its reason, the conidx; and the
script's own: check, start, reload, drain."""

import os
import re
import resource
import shutil
import signal
import subprocess
import time
import unittest

import wire
from relay import (
    KIB,
    MIB,
    SANITIZED,
    SCALE,
    RelayCase,
    StartFailed,
    evrelay,
    patience,
    plain_only,
    pump,
    scaled,
    to_yaml,
)
from scripts import ACT, ECHO, OBSERVE, act

# Every event is a line of the log: "new PORT", "message PORT TEXT", "closed PORT REASON".
LOG = """
event_route["evapi:connection-new"] = function(evapi)
  xlog("new " .. evapi.srcport)
  if evapi.srcaddr == "127.0.0.2" then error("nobody from there") end
end
event_route["evapi:message-received"] = function(evapi)
  xlog("message " .. evapi.srcport .. " " .. evapi.msg)
  if evapi.msg == "close" then evapi.close() end
end
event_route["evapi:connection-closed"] = function(evapi)
  xlog("closed " .. evapi.srcport .. " " .. evapi.reason)
end
"""

# Says its conidx and hears everything.
CONIDX = """
event_route["evapi:connection-new"] = function(evapi)
  evapi.reply("conidx " .. evapi.conidx)
end
event_route["evapi:connection-closed"] = function(evapi)
  evapi.relay("closed " .. evapi.conidx .. " " .. evapi.reason)
end
"""


def port_of(subscriber):
    return subscriber.sock.getsockname()[1]


def history(relay, port):
    """What LOG has said of the connection from this port: event names, and the reason at last."""
    said = re.findall(rf" hook: (new|message|closed) {port}\b ?(.*)$", relay.log, re.MULTILINE)
    return [f"{event} {rest}" if event == "closed" else event for event, rest in said]


def connect_held(relay):
    """A subscriber that a held worker lets wait: it is there, and not admitted."""
    subscriber = relay.subscriber()
    assert relay.status()["subscribers"]["admitting"] >= 1
    return subscriber


class Admission(RelayCase):
    def setUp(self):
        self.script = """
        event_route["evapi:connection-new"] = function(evapi)
          evapi.relay("new " .. evapi.conidx)
          if evapi.srcaddr == "127.0.0.2" then
            evapi.reply("not you")
            evapi.close()
          elseif evapi.srcaddr == "127.0.0.3" then
            error("nobody from there")
          end
        end
        event_route["evapi:connection-closed"] = function(evapi)
          evapi.relay("closed " .. evapi.conidx .. " " .. evapi.reason)
        end
        """

    def start_two(self, **config):
        """A relay, and a subscriber that is admitted, of the second of two workers."""
        relay = self.start(lua=self.script, workers=2, **config)
        first, live = relay.subscribers(2)
        relay.wait_handled()
        first.kill()
        live.skip_to(b"closed 0 reset")
        return relay, live

    def test_it_gets_everything_since_it_was_accepted(self):
        relay, live = self.start_two()
        producer = relay.producer()
        with relay.worker_held(0):
            waits = connect_held(relay)
            self.assertEqual(producer.request("relay", "one"), [b"ok", b"2"])
            producer.relay(b"two")
            live.expect(b"one", b"two")
            status = relay.status()
            self.assertEqual(status["subscribers"]["admitting"], 1)
            self.assertEqual(status["subscribers"]["live"], 2)
            relay.check_balance(status)
            self.assertRaises(BlockingIOError, waits.sock.recv, 1)
        waits.expect(b"one", b"two", b"new 0")
        live.expect(b"new 0")
        self.assertEqual(relay.status()["subscribers"]["admitting"], 0)

    def test_nothing_is_read_from_it(self):
        relay, live = self.start_two()
        with relay.worker_held(0):
            waits = connect_held(relay)
            waits.send(b"5:hello,")
            relay.turn()
            self.assertEqual(relay.status()["messages"]["received"], 0)
        relay.wait_status(lambda s: s["messages"]["received"] == 1, "now it is read")

    def test_a_refused_one_gets_what_its_verdict_says_and_nothing_else(self):
        relay, live = self.start_two()
        with relay.worker_held(0):
            refused = relay.subscriber(source="127.0.0.2")
            for n in range(10):
                self.assertEqual(relay.producer().request("relay", str(n)), [b"ok", b"2"])
        refused.expect_end("eof")
        self.assertEqual(refused.events, [b"new 0", b"not you"])
        live.expect(*[b"%d" % n for n in range(10)], b"new 0", b"closed 0 hook")
        status = relay.status()
        self.assertEqual(status["deliveries"]["dropped"]["refused"], 10)
        self.assertEqual(status["subscribers"]["closed"]["hook"], 1)

    def test_one_whose_hook_failed_gets_nothing(self):
        relay, live = self.start_two()
        with relay.worker_held(0):
            refused = relay.subscriber(source="127.0.0.3")
            self.assertEqual(relay.producer().request("relay", "x"), [b"ok", b"2"])
        refused.expect_end("eof")
        self.assertEqual(refused.taken, 0)
        live.expect(b"x", b"closed 0 hook-error")
        self.assertEqual(relay.status()["deliveries"]["dropped"]["refused"], 1)

    def test_at_max_lag_it_is_cut_whatever_the_policy_and_holds_back_nobody(self):
        for policy in ("disconnect", "skip", "block"):
            with self.subTest(policy=policy):
                relay, live = self.start_two(
                    max_event="64KiB", slow_subscriber={"max_lag": "1MiB", "policy": policy}
                )
                producer = relay.producer()
                with relay.worker_held(0):
                    waits = connect_held(relay)
                    for n in range(60):  # 3 MB
                        event = (b"%d " % n).ljust(50_000, b".")
                        producer.relay(event)
                        live.expect(event)
                    self.assertEqual(relay.status()["loop"]["holds"], 0)
                    status = relay.status()
                    self.assertEqual(status["subscribers"]["closed"]["admission"], 1)
                    relay.check_balance(status)
                waits.expect_end("reset")
                self.assertEqual(waits.taken, 0)
                # What its connection-new said counts; only for itself it comes too late.
                live.expect(b"new 0", b"closed 0 admission")
                dropped = relay.status()["deliveries"]["dropped"]
                self.assertEqual(dropped["refused"], sum(dropped.values()))
                self.assertGreater(dropped["refused"], 0)

    @unittest.skipIf(SCALE < 20, "the long form only: it takes 10 s")
    def test_after_10_s_it_is_closed(self):
        relay, live = self.start_two()
        with relay.worker_held(0):
            began = time.monotonic()
            waits = connect_held(relay)
            self.assertEqual(relay.producer().request("relay", "x"), [b"ok", b"2"])
            waits.expect_end("eof", timeout=12)
            self.assertGreater(time.monotonic() - began, 9.9)
            self.assertEqual(relay.status()["subscribers"]["closed"]["admission"], 1)
        live.expect(b"x", b"new 0", b"closed 0 admission")
        self.assertEqual(waits.taken, 0)

    def test_without_a_connection_new_there_is_nothing_to_wait_for(self):
        relay = self.start(lua=ECHO)
        relay.subscriber()
        with relay.worker_held(0):
            late = relay.subscriber()
            late.send(b"5:hello,")
            relay.wait_status(lambda s: s["messages"]["received"] == 1, "received")
            self.assertEqual(relay.producer().request("relay", "event"), [b"ok", b"2"])
            late.expect(b"event")
        late.expect(b"hello")

    def test_one_that_leaves_meanwhile_is_announced_and_closed_all_the_same(self):
        relay, live = self.start_two()
        with relay.worker_held(0):
            waits = connect_held(relay)
            waits.kill()
            relay.turn()
        live.expect(b"new 0", b"closed 0 reset")
        self.assertEqual(relay.status()["subscribers"]["live"], 1)


class Ends(RelayCase):
    def expect_lives(self, relay, wanted):
        """wanted: reason by port. Each has had connection-new first, and connection-closed once
        and last."""
        for port, reason in wanted.items():
            relay.wait_log(f"closed {port} {reason}$")
            lived = history(relay, port)
            self.assertEqual(lived[0], "new")
            self.assertEqual(lived[-1], f"closed {reason}")
            self.assertEqual(set(lived[1:-1]), {"message"} if len(lived) > 2 else set())

    def test_connection_closed_once_and_last_for_what_the_peer_does(self):
        relay = self.start(lua=LOG)
        ends = {
            "eof": lambda s: s.half_close(),
            "reset": lambda s: s.kill(),
            "hook": lambda s: s.send(b"5:close,5:never,"),
            "truncated": lambda s: (s.send(b"5:hel"), s.half_close()),
            "bad-size": lambda s: s.send(b"x5:never,"),
            "bad-type": lambda s: s.send(b"5:hello;5:never,"),
            "too-big": lambda s: s.send(b"65537:never,"),
        }
        wanted = {}
        for reason, end in ends.items():
            with self.subTest(reason):
                before = relay.status()["subscribers"]["closed"]
                subscriber = relay.subscriber()
                port = port_of(subscriber)
                wanted[port] = reason
                subscriber.send(b"1:a,1:b,")
                relay.wait_log(f"message {port} b$")
                end(subscriber)
                relay.wait_log(f"closed {port} ")
                if reason != "reset":
                    subscriber.expect_end("eof")
                    subscriber.close()
                closed = relay.status()["subscribers"]["closed"]
                self.assertEqual(closed, {**before, reason: before[reason] + 1})
        refused = relay.subscriber(source="127.0.0.2")
        wanted[port_of(refused)] = "hook-error"
        refused.expect_end("eof")
        self.expect_lives(relay, wanted)
        self.assertNotIn("never", relay.log)

    def test_connection_closed_for_what_the_peer_does_not(self):
        """Slow subscribers, by each policy, and one that hook's frames overflow."""
        for reason, config in {
            "slow-subscriber": {"policy": "disconnect"},
            "stalled": {"policy": "block", "stall_timeout": "100ms"},
        }.items():
            with self.subTest(reason):
                relay = self.start(
                    lua=LOG,
                    send_buffer="16KiB",
                    max_event="64KiB",
                    slow_subscriber={"max_lag": "1MiB", **config},
                )
                slow = relay.subscriber(receive_buffer=4 * KIB)
                port = port_of(slow)
                slow.paused = True
                slow.send(b"1:a,")
                relay.wait_log(f"message {port} a$")
                producer = relay.producer()
                producer.send(wire.data(b"x" * 60_000) * 40)
                producer.flush()
                self.expect_lives(relay, {port: reason})

    def test_a_laggard_that_hooks_overflow_is_closed_though_policy_block_holds_producers_back(self):
        relay = self.start(
            lua=LOG.replace('if evapi.msg == "close" then evapi.close() end', "evapi.relay(BIG)")
            + 'BIG = ("x"):rep(60000)',
            workers=2,
            send_buffer="16KiB",
            max_event="64KiB",
            slow_subscriber={"max_lag": "1MiB", "policy": "block", "stall_timeout": "10min"},
        )
        slow = relay.subscriber(receive_buffer=4 * KIB)
        slow.paused = True
        relay.wait_handled()
        talker = relay.subscriber()
        for n in range(130):  # 7.8 MB
            talker.send(b"1:x,")
            talker.expect(b"x" * 60_000)
        self.expect_lives(relay, {port_of(slow): "slow-subscriber"})

    def test_drain_runs_every_connection_closed(self):
        relay = self.start(lua=LOG, workers=4)
        subscribers = relay.subscribers(50)
        relay.wait_handled()
        relay.signal(signal.SIGTERM)
        pump(subscribers, lambda: all(s.ended for s in subscribers))
        ports = [port_of(s) for s in subscribers]
        relay.close_peers()
        self.assertEqual(relay.wait(), 0)
        self.expect_lives(relay, dict.fromkeys(ports, "drain"))

    def test_drain_handles_what_was_read_and_delivers_the_answers(self):
        relay = self.start(lua=OBSERVE + CONIDX.partition("end\n")[0] + "end")
        live = relay.subscriber()
        live.expect(b"conidx 0")
        with relay.worker_held(0):
            live.send(b"1:a,1:b,")
            relay.wait_status(lambda s: s["messages"]["received"] == 2, "received")
            waits = connect_held(relay)
            self.assertEqual(relay.producer().request("relay", "event"), [b"ok", b"2"])
            relay.signal(signal.SIGTERM)
            relay.wait_status(lambda s: s["state"] == "draining", "it drains")
            relay.turn()
        live.expect_end("eof")
        waits.expect_end("eof")
        said = [b"event", b"message 0 a", b"message 0 b"]
        self.assertEqual([*live.events[:3], live.events[-1]], [*said, b"closed 0 drain"])
        # It was let in, and gets all that was relayed before its connection-closed has run.
        self.assertEqual(waits.events, [*said, b"conidx 1", b"closed 1 drain"])
        relay.close_peers()
        self.assertEqual(relay.wait(), 0)

    def test_half_close_gets_its_answer_and_then_the_end(self):
        relay = self.start(lua=ECHO)
        subscriber = relay.subscriber()
        subscriber.send(b"5:hello,")
        subscriber.half_close()
        subscriber.expect(b"hello")
        subscriber.expect_end("eof")

    @unittest.skipIf(shutil.which("nc") is None, "there is no nc")
    @plain_only("nc has none")
    def test_half_close_by_nc(self):
        """printf '5:hello,' | nc -N 127.0.0.1 PORT"""
        usage = subprocess.run(["nc", "-h"], capture_output=True, check=False)
        if b"-N" not in usage.stdout + usage.stderr:
            self.skipTest("this nc has no -N")
        relay = self.start(lua=ECHO)
        done = subprocess.run(
            ["nc", "-N", *map(str, relay.address)],
            input=b"5:hello,",
            capture_output=True,
            timeout=patience(10),
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (0, b"5:hello,"))


class Conidx(RelayCase):
    def test_it_is_free_when_connection_closed_has_run(self):
        relay = self.start(lua=CONIDX, workers=2)
        first, second = relay.subscribers(2)
        first.expect(b"conidx 0")
        second.expect(b"conidx 1")
        with relay.worker_held(1):
            second.kill()
            relay.wait_status(lambda s: s["subscribers"]["live"] == 1, "it has left")
            third = relay.subscriber()  # conidx 2, of the worker that goes on
            third.expect(b"conidx 2")
        first.expect(b"closed 1 reset")
        relay.subscriber().expect(b"conidx 1")
        relay.subscriber().expect(b"conidx 3")

    def test_it_counts_as_taken_for_max_clients_until_then(self):
        relay = self.start(lua=CONIDX, workers=2, max_clients=2)
        first, second = relay.subscribers(2)
        with relay.worker_held(1):
            second.kill()
            relay.wait_status(lambda s: s["subscribers"]["live"] == 1, "it has left")
            relay.subscriber(wait=False).expect_end(None)
            self.assertEqual(relay.status()["subscribers"]["refused"]["full"], 1)
        first.expect(b"conidx 0", b"closed 1 reset")
        relay.subscriber().expect(b"conidx 1")

    def test_one_that_waits_for_admission_has_its_place(self):
        relay = self.start(lua=CONIDX, max_clients=2)
        relay.subscriber().expect(b"conidx 0")
        with relay.worker_held(0):
            connect_held(relay)
            relay.subscriber(wait=False).expect_end(None)
            self.assertEqual(relay.status()["subscribers"]["refused"]["full"], 1)


class Reload(RelayCase):
    def versioned(self, version):
        return f"""
        local count = 0
        event_route["evapi:message-received"] = function(evapi)
          count = count + 1
          evapi.reply("v{version} " .. count .. " " .. evapi.msg .. " " .. tostring(evapi.tag))
          if evapi.tag == nil then evapi.set_tag("set by v{version}") end
          evapi.multicast("for the tag", "set by v1")
        end
        """

    def test_the_new_script_takes_over_and_connections_and_tags_stay(self):
        relay = self.start(lua=self.versioned(1))
        subscriber = relay.subscriber()
        subscriber.send(b"1:a,1:b,")
        subscriber.expect(b"v1 1 a nil", b"for the tag", b"v1 2 b set by v1", b"for the tag")
        relay.reload(lua=self.versioned(2))
        other = relay.subscriber()
        other.send(b"1:c,")
        other.expect(b"v2 1 c nil")
        subscriber.expect(b"for the tag")
        subscriber.send(b"1:d,")
        subscriber.expect(b"v2 2 d set by v1", b"for the tag")

    def test_messages_queued_before_it_meet_the_old_script_later_ones_the_new(self):
        relay = self.start(lua=self.versioned(1))
        subscriber = relay.subscriber()
        with relay.worker_held(0):
            subscriber.send(b"6:before,")
            relay.wait_status(lambda s: s["messages"]["received"] == 1, "received")
            relay.reload(lua=self.versioned(2))
            subscriber.send(b"5:after,")
            relay.wait_status(lambda s: s["messages"]["received"] == 2, "received")
        subscriber.expect(b"v1 1 before nil", b"for the tag")
        subscriber.expect(b"v2 1 after set by v1", b"for the tag")

    def test_a_bad_script_changes_nothing_and_says_where(self):
        relay = self.start(lua=self.versioned(1), max_clients=1)
        subscriber = relay.subscriber()
        count = 0
        for text, where in (
            ("\n\nx = = 1\n", r":3: .*="),
            ("\nerror('so it is')\n", r":2: so it is"),
            ("local x\nx.y = 1\n", r":2: .*x"),
            ("\nwhile true do end\n", r":2: .*1000 ms"),
            ("\n\nlocal t = {} while true do t[#t + 1] = {} end", r":3: .*hook\.memory"),
            ('\nevent_route["evapi:conection-new"] = function() end', r":2: .*connection-new"),
        ):
            with self.subTest(text):
                log = relay.reload("nothing has changed", lua=text, max_clients=5)
                self.assertRegex(
                    log, rf"(?m) error daemon: reload: {re.escape(relay.script)}{where}"
                )
                count += 1
                subscriber.send(b"1:x,")
                subscriber.skip_to(
                    b"v1 %d x %b" % (count, b"set by v1" if count > 1 else b"nil")
                )
                relay.subscriber(wait=False).expect_end(None)
        os.unlink(relay.script)
        relay.signal(signal.SIGHUP)
        relay.wait_log(rf"reload: {re.escape(relay.script)}: .*No such file")
        # A good one is still taken.
        relay.reload(lua=self.versioned(2))
        subscriber.send(b"1:x,")
        subscriber.skip_to(b"v2 1 x set by v1")

    def test_no_script_then_one_then_none(self):
        relay = self.start()
        early = relay.subscriber()
        early.send(b"1:a,")
        relay.wait_status(lambda s: s["messages"]["dropped"]["no-hook"] == 1, "dropped")
        relay.reload(lua=OBSERVE)
        self.assertEqual(relay.status()["hook"]["script"], relay.script)
        # It is heard from now on; of its end nothing is said, as nothing was of its beginning.
        early.send(b"1:b,")
        early.expect(b"message 0 b")
        known = relay.subscriber()
        early.expect(b"new 1")
        early.kill()
        relay.wait_status(lambda s: s["subscribers"]["live"] == 1, "it has left")
        known.send(b"1:c,")
        known.expect(b"new 1", b"message 1 c")
        heir = relay.subscriber()
        known.expect(b"new 0")
        relay.reload(script=None)
        self.assertIsNone(relay.status()["hook"]["script"])
        dropped = relay.status()["messages"]["dropped"]["no-hook"]
        known.send(b"1:d,")
        relay.wait_status(lambda s: s["messages"]["dropped"]["no-hook"] == dropped + 1, "dropped")
        # One that the script knew ends without it, or with the next one; its conidx becomes free.
        heir.expect(b"new 0")
        heir.kill()
        relay.wait_status(lambda s: s["subscribers"]["live"] == 1, "it has left")
        relay.reload(lua=OBSERVE)
        known.half_close()
        known.expect(b"closed 1 eof")
        known.expect_end("eof")
        relay.subscriber().expect(b"new 0")
        relay.subscriber().expect(b"new 1")

    def test_nothing_is_inherited_from_one_that_the_script_did_not_see_come(self):
        relay = self.start()
        relay.subscriber()
        early = relay.subscriber()
        relay.reload(
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              evapi.reply(evapi.conidx .. " " .. tostring(evapi.tag))
              evapi.set_tag("early")
              if evapi.msg == "close" then evapi.close() end
            end
            """
        )
        early.send(b"1:x,5:close,5:never,")
        early.expect(b"1 nil", b"1 early")
        early.expect_end("eof")
        heir = relay.subscriber()
        heir.send(b"1:x,")
        heir.expect(b"1 nil")

    def test_event_callback_and_limits_are_taken_over(self):
        relay = self.start(
            lua="""
            function one(name) KSR.evapi.relay("one " .. name) end
            function two(name) KSR.evapi.relay("two " .. name) end
            """,
            event_callback="one",
        )
        subscriber = relay.subscriber()
        subscriber.expect(b"one evapi:connection-new")
        relay.reload(event_callback="two", max_event="1KiB")
        subscriber.send(b"1:x,")
        subscriber.expect(b"two evapi:message-received")
        log = relay.reload("nothing has changed", event_callback="three")
        self.assertRegex(log, "there is no global function three, which event_callback names")
        relay.reload(lua=ACT, event_callback=None)
        subscriber.send(act("relay", b"x" * 1025))
        subscriber.expect(b"relay false")
        relay.reload(max_event="2KiB")
        subscriber.send(act("relay", b"x" * 1025))
        subscriber.expect(b"x" * 1025, b"relay true")

    def test_workers_need_a_restart(self):
        relay = self.start(lua=ECHO)
        self.assertRegex(relay.reload(workers=2), r"warn daemon: .*\bworkers\b.*restart")
        self.assertEqual(relay.status()["hook"]["workers"], 1)

    @unittest.skipIf(SANITIZED, "a sanitizer needs more memory than that")
    def test_one_that_no_thread_can_load_changes_nothing_and_says_why(self):
        relay = self.start(lua=self.versioned(1))
        subscriber = relay.subscriber()
        relay.wait_handled()
        with open(f"/proc/{relay.pid}/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        # Less than the stack of a thread.
        old = resource.prlimit(relay.pid, resource.RLIMIT_AS, (used + 2 * MIB, resource.RLIM_INFINITY))
        log = relay.reload("nothing has changed", lua=self.versioned(2))
        self.assertIn(" error daemon: reload: cannot start a thread for the script: ", log)
        subscriber.send(b"1:a,")
        subscriber.expect(b"v1 1 a nil", b"for the tag")
        resource.prlimit(relay.pid, resource.RLIMIT_AS, old)
        relay.reload(lua=self.versioned(2))
        subscriber.send(b"1:b,")
        subscriber.expect(b"v2 1 b set by v1", b"for the tag")

    def test_a_stop_waits_for_the_one_under_way(self):
        relay = self.start(lua=self.versioned(1))
        relay.write_script("local t = os.clock() while os.clock() < t + 0.05 do end")
        relay.signal(signal.SIGHUP)
        relay.turn()
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 0)
        self.assertNotIn(" warn ", relay.log)
        self.assertFalse(os.path.exists(relay.producer_path))

    def test_bar_17_reloads_of_scripts_under_load(self):
        """RELIABILITY bar 17: good and bad scripts alternating: every message meets one of them,
        in order."""

        def script(version):
            return ECHO.replace("evapi.msg", f'"{version} " .. evapi.msg')

        relay = self.start(lua=script(0), workers=4)
        subscribers = relay.subscribers(8)
        sent = 0
        for version in range(1, scaled(1000) + 1):
            start = len(relay.log)
            bad = version % 2 == 0
            relay.write_script("x = = 1" if bad else script(version))
            for subscriber in subscribers:
                subscriber.send(b"".join(wire.data(b"%d" % n) for n in range(sent, sent + 20)))
            sent += 20
            relay.signal(signal.SIGHUP)
            wanted = "reload: nothing has changed" if bad else "reload: done"
            pump(subscribers, lambda at=start, line=wanted: line in relay.log[at:])
        pump(subscribers, lambda: all(len(s.events) == sent for s in subscribers))
        for subscriber in subscribers:
            answers = [event.split() for event in subscriber.events]
            self.assertEqual([int(number) for _, number in answers], list(range(sent)))
            versions = [int(version) for version, _ in answers]
            self.assertEqual(versions, sorted(versions))
            self.assertGreater(len(set(versions)), 3)


class CheckAndStart(RelayCase):
    # Name, text, and what must stand behind the script's path.
    BAD = [
        ("a syntax error", "\nlocal x = = 1\n", r":2: .*="),
        ("an unfinished block", "if true then\n", r":2: .*end"),
        ("an error", "\n\nerror('so it is')\n", r":3: so it is"),
        ("an error in a function", "local function f() error('so') end\nf()", r":1: so"),
        ("an endless loop", "\nwhile true do end\n", r":2: .*1000 ms"),
        ("too much memory", "local t = {}\nwhile 1 do t[#t + 1] = {} end", r":2: .*hook\.memory"),
        ("an unknown event", '\nevent_route["evapi:close"] = function() end', r":2: .*evapi:close"),
        ("a route that is no function", 'event_route["evapi:connection-new"] = 5', r": .*number"),
        ("no table of routes", "event_route = nil", r": .*event_route"),
        ("bytecode", "\x1bLua", r": .*binary"),
        ("what is not there", "local f = io.open('/etc/passwd')", r":1: .*io"),
    ]

    def check(self, text, folder="", **config):
        """Runs --check; returns the result and the path of the script."""
        folder = os.path.join(self.directory(), folder)
        os.makedirs(folder, exist_ok=True)
        script = os.path.join(folder, "hook.lua")
        if text is not None:
            with open(script, "w", encoding="utf-8") as file:
                file.write(text)
        path = os.path.join(folder, "evrelay.yaml")
        keys = {"bind_addr": "127.0.0.1:0", "script": script, **config}
        with open(path, "w", encoding="utf-8") as file:
            file.write(to_yaml({**keys, "producer": {"socket": f"{folder}/producer.sock"}}))
        return evrelay("-c", path, "--check"), script

    def test_a_good_script(self):
        done, _ = self.check(OBSERVE + ACT)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "ok\n", ""))

    def test_actions_return_false_at_the_top_level(self):
        done, _ = self.check(
            ECHO
            + """
            assert(evapi.relay("x") == false and evapi.multicast("x", "t") == false)
            assert(evapi.unicast("x", "t") == false and evapi.reply("x") == false)
            assert(evapi.close() == false and evapi.set_tag("t") == false)
            assert(evapi.srcaddr == nil and evapi.conidx == nil and evapi.msg == nil)
            """
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_every_bad_script_is_named_with_its_line(self):
        for name, text, where in self.BAD:
            with self.subTest(name):
                done, script = self.check(text)
                self.assertEqual(done.returncode, 2)
                self.assertEqual(done.stdout, "")
                self.assertRegex(done.stderr, rf"^{re.escape(script)}{where}")

    def test_a_long_path_is_named_in_full(self):
        for text in ("\nx = = 1", "\nerror('so it is')"):
            done, script = self.check(text, folder="x" * 60)
            self.assertRegex(done.stderr, rf"^{re.escape(script)}.*:2: ")

    def test_a_script_that_cannot_be_read(self):
        done, script = self.check(None)
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"{script}: ", done.stderr)
        self.assertIn("No such file", done.stderr)
        done, _ = self.check(None, script="/")
        self.assertEqual(done.returncode, 2)
        self.assertIn("/: not a regular file", done.stderr)

    def test_a_callback_that_is_not_there(self):
        done, _ = self.check("function on_evnt() end", event_callback="on_event")
        self.assertEqual(done.returncode, 2)
        self.assertIn("on_event", done.stderr)

    def test_a_start_with_a_bad_script_opens_nothing(self):
        folder = self.directory()
        with self.assertRaises(StartFailed) as failed:
            self.start(directory=folder, lua="\nx = = 1")
        self.assertEqual(failed.exception.code, 2)
        self.assertRegex(failed.exception.log, r"hook\.lua:2: ")
        self.assertEqual(sorted(os.listdir(folder)), ["evrelay.yaml", "hook.lua"])

    def test_script_by_flag(self):
        folder = self.directory()
        script = os.path.join(folder, "by_flag.lua")
        with open(script, "w", encoding="utf-8") as file:
            file.write(ECHO)
        relay = self.start(args=["--script", script, "--workers", "3"])
        self.assertEqual(relay.status()["hook"]["script"], script)
        self.assertEqual(relay.status()["hook"]["workers"], 3)
        subscriber = relay.subscriber()
        subscriber.send(b"5:hello,")
        subscriber.expect(b"hello")


if __name__ == "__main__":
    unittest.main()
