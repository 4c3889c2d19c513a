"""Scripts that run wild: what a hook may take and break, and that nobody else feels it."""

import contextlib
import os
import re
import signal
import socket
import time
import unittest

import wire
from relay import KIB, MIB, SANITIZED, Relay, RelayCase, patience, pump
from scripts import ACT

HAS_SYSTEMD = os.environ.get("EVRELAY_SYSTEMD", "1") == "1"

# Runs what a message names, answers others.
WILD = """
local wild = {}
%s
event_route["evapi:message-received"] = function(evapi)
  if wild[evapi.msg] then wild[evapi.msg](evapi) end
  evapi.reply(evapi.msg)
end
"""

# What never ends by itself.
ENDLESS = {
    "a loop": "while true do end",
    "a loop that swallows errors": "while true do pcall(function() while true do end end) end",
    "nested pcalls": "local function f() while true do pcall(f) end end f()",
    "a handler that loops": "xpcall(error, function() while true do end end)",
    "a loop with a handler": "while true do xpcall(error, function() while true do end end) end",
    "a coroutine": "coroutine.wrap(function() while true do end end)()",
    "a coroutine that swallows errors": """
      while true do
        local co = coroutine.create(function()
          while true do pcall(function() while true do end end) end
        end)
        coroutine.resume(co)
      end""",
    "coroutines that yield": """
      local co = coroutine.wrap(function() while true do coroutine.yield() end end)
      while true do co() end""",
    "recursion": "local function f() return f() end f()",
    "a metamethod": """
      local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end})
      while true do pcall(function() return t[1] end) end""",
    "a closed variable": """
      while true do
        pcall(function()
          local x <close> = setmetatable({}, {__close = function() while true do end end})
          error("x")
        end)
      end""",
    "library calls": "while true do local s = string.format('%s', ('x'):rep(100)):upper() end",
    "a sort": """
      local t = {} for i = 1, 1000 do t[i] = i end
      while true do table.sort(t, function(a, b) return a > b end) end""",
    "actions": "while true do evapi.relay('never') end",
    "log lines of no level": "while true do xlog('L_DBG', 'x') end",
    "many small matches": "while true do local a = ('key=value'):match('(%w+)=(%w+)') end",
}

# What takes all memory it can get.
BOMBS = {
    "a table": "local t = {} while true do t[#t + 1] = {} end",
    "a text": "local s = 'x' while true do s = s .. s end",
    "texts": "local t = {} while true do t[#t + 1] = ('x'):rep(10000) .. #t end",
    "a repetition": "return ('x'):rep(1 << 40)",
    "recursion": "local function f() local t = {f()} return t end f()",
    "coroutines": "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
    "a closure chain": "local f while true do local g = f f = function() return g end end",
    "a concatenation": """
      local t = {} for i = 1, 100 do t[i] = ('x'):rep(1000) end
      local s = table.concat(t) while true do s = s .. table.concat(t, s) end""",
    "one that swallows errors": """
      local t = {}
      local function fill() while true do t[#t + 1] = ('x'):rep(1000) .. #t end end
      while true do pcall(fill) end""",
}

# A match that no instruction hook can end: minutes, by any computer's clock.
STUCK = """
event_route["evapi:message-received"] = function(evapi)
  if evapi.msg == "stuck" then
    local x = string.rep("a", 30):match(("a-"):rep(14) .. "b")
  end
  evapi.reply(evapi.msg)
end
"""


def table_of(functions):
    """The entries of the table `wild` in WILD."""
    return "\n".join(
        f'wild["{name}"] = function(evapi) {" ".join(text.split())} end'
        for name, text in functions.items()
    )


def cpu_seconds_of(relay, thread):
    """What a thread has taken of the processor."""
    with open(f"/proc/{relay.pid}/task/{thread}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e9


class ContainmentCase(RelayCase):
    def say(self, subscriber, *messages):
        subscriber.send(b"".join(wire.data(m) for m in messages))

    def failed(self, relay):
        return relay.status()["hook"]["failed"]

    def expect_answers(self, *subscribers):
        """Their workers are at work."""
        for subscriber in subscribers:
            self.say(subscriber, b"still here?")
            subscriber.expect(b"still here?")


class Time(ContainmentCase):
    def test_bar_23_what_never_ends_is_stopped_at_its_timeout(self):
        """RELIABILITY bar 23: at timeout + 10 ms of the worker's CPU time; the state is usable."""
        relay = self.start(lua=WILD % table_of(ENDLESS), hook={"timeout": "50ms"})
        subscriber = relay.subscriber()
        self.expect_answers(subscriber)
        thread = relay.worker_thread(0)
        for number, name in enumerate(ENDLESS, 1):
            with self.subTest(name):
                relay.wait_handled()
                before = cpu_seconds_of(relay, thread)
                self.say(subscriber, name.encode(), b"after")
                subscriber.expect(b"after")
                took = cpu_seconds_of(relay, thread) - before
                self.assertGreater(took, 0.045)
                if not SANITIZED:
                    self.assertLess(took, 0.060)
                self.assertEqual(self.failed(relay), {"error": 0, "timeout": number, "memory": 0})
        self.assertIsNone(subscriber.ended)
        self.assertEqual(relay.status()["events"]["relayed"], 0)

    def test_bar_23_other_workers_and_all_relaying_go_on(self):
        relay = self.start(lua=WILD % table_of(ENDLESS), workers=2, hook={"timeout": "100ms"})
        wild, other = relay.subscribers(2)
        producer = relay.producer()
        self.expect_answers(wild, other)
        runs = relay.wait_handled()["messages"]["handled"]
        self.say(wild, *[b"a loop that swallows errors"] * 10)
        rounds = 0

        def at_its_loops():
            return relay.status()["messages"]["handled"] < runs + rounds + 10

        while at_its_loops():
            number = rounds
            self.say(other, b"%d" % number)
            other.expect(b"%d" % number)
            self.assertEqual(producer.request("relay", str(number)), [b"ok", b"2"])
            other.expect(b"%d" % number)
            wild.expect(b"%d" % number)
            rounds += 1
        self.assertGreater(rounds, 5)
        self.assertEqual(self.failed(relay)["timeout"], 10)
        self.expect_answers(wild)

    def test_the_timeout_is_of_cpu_time(self):
        """A worker that does not get the processor is not to blame."""
        relay = self.start(
            hook={"timeout": "500ms"},
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              local began = os.clock()
              while os.clock() < began + 0.3 do end
              evapi.reply("done")
            end
            """,
        )
        subscriber = relay.subscriber()
        relay.wait_handled()
        thread = relay.worker_thread(0)
        before = cpu_seconds_of(relay, thread)
        self.say(subscriber, b"x")
        subscriber.pump(lambda: cpu_seconds_of(relay, thread) > before + 0.01)
        relay.signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, relay.pid, os.WSTOPPED)
            on = time.monotonic() + 0.6
            subscriber.pump(lambda: time.monotonic() > on)
            self.assertEqual(subscriber.events, [], "it was stopped too late")
        finally:
            relay.signal(signal.SIGCONT)
        subscriber.expect(b"done")
        self.assertEqual(self.failed(relay)["timeout"], 0)


class Memory(ContainmentCase):
    def test_bar_23_a_memory_bomb_ends_at_the_cap(self):
        """RELIABILITY bar 23: at hook.memory; the state is usable after."""
        # Half of it at once, which takes all for a moment.
        big = {"big": "local s = ('x'):rep(7 << 19)"}
        relay = self.start(
            lua=WILD % table_of({**BOMBS, **big}), hook={"timeout": f"{patience(300)}ms", "memory": "8MiB"}
        )
        subscriber = relay.subscriber()
        self.expect_answers(subscriber)
        memory = relay.rss()
        for name in BOMBS:
            with self.subTest(name):
                before = self.failed(relay)
                self.say(subscriber, name.encode(), b"big")
                subscriber.expect(b"big")
                after = self.failed(relay)
                self.assertEqual(sum(after.values()), sum(before.values()) + 1, after)
                if "swallows" not in name and name != "a repetition":
                    self.assertEqual(after["memory"], before["memory"] + 1, after)
                if not SANITIZED:
                    # The allocator counts what Lua asks for; malloc needs more, in pieces.
                    self.assertLess(relay.rss() - memory, 32 * MIB)

    def test_a_script_that_keeps_too_much_can_still_be_spoken_to(self):
        """What it holds in globals leaves no room: every hook fails, or the state starts afresh."""
        relay = self.start(
            hook={"timeout": "1s", "memory": "1MiB"},
            lua="""
            kept = {}
            event_route["evapi:message-received"] = function(evapi)
              if evapi.msg == "keep" then
                while true do kept[#kept + 1] = ("x"):rep(1000) .. #kept end
              end
              evapi.reply(evapi.msg)
            end
            """,
        )
        subscriber = relay.subscriber()
        self.say(subscriber, b"keep")
        relay.wait_status(lambda s: s["hook"]["failed"]["memory"] == 1, "out of memory")
        self.expect_answers(subscriber)

    def test_one_state_does_not_take_from_another(self):
        relay = self.start(
            lua=WILD % table_of(BOMBS), workers=2, hook={"timeout": "1s", "memory": "4MiB"}
        )
        wild, other = relay.subscribers(2)
        for _ in range(5):
            self.say(wild, b"texts")
            self.expect_answers(other)
        relay.wait_handled()
        self.assertEqual(self.failed(relay)["memory"], 5)


class Stuck(ContainmentCase):
    """RELIABILITY bar 24: a hook that nothing can interrupt."""

    def start_stuck(self, **keywords):
        """A relay that need not end in good order."""
        relay = Relay({"drain": "1s", **keywords.pop("config", {})}, lua=STUCK, **keywords)
        self._relays.append(relay)
        self.addCleanup(relay.clean_up)
        return relay.wait_ready()

    def test_bar_24_a_stuck_worker_is_reported_and_nobody_else_waits(self):
        relay = self.start_stuck(config={"workers": 2})
        stuck, other = relay.subscribers(2)
        self.expect_answers(stuck, other)
        began = time.monotonic()
        self.say(stuck, b"stuck", b"waits")
        producer = relay.producer()
        number = 0
        while "worker 0 has been in message-received of conidx 0" not in relay.log:
            self.say(other, b"%d" % number)
            other.expect(b"%d" % number)
            self.assertEqual(producer.request("relay", "event"), [b"ok", b"2"])
            other.expect(b"event")
            stuck.expect(b"event")
            number += 1
            self.assertLess(time.monotonic() - began, patience(3), relay.log)
        self.assertGreater(time.monotonic() - began, 1.9)
        status = relay.status()
        self.assertEqual(status["hook"]["stuck_workers"], 1)
        relay.check_balance(status)
        # Its other connections are not heard, but they can come, and hear what is relayed.
        late = relay.subscriber()
        self.say(late, b"not heard")
        self.assertEqual(producer.request("relay", "for all"), [b"ok", b"3"])
        for subscriber in (other, stuck, late):
            subscriber.expect(b"for all")
        self.stop_in_time(relay)
        # It is said once, and once more at the end.
        self.assertEqual(relay.log.count("worker 0 has been in"), 2)

    def test_bar_24_a_worker_that_goes_on_is_reported_too(self):
        relay = self.start(
            hook={"timeout": "2200ms"},
            lua=WILD % table_of({"a loop": ENDLESS["a loop"]}),
        )
        subscriber = relay.subscriber()
        self.say(subscriber, b"a loop", b"after")
        relay.wait_log(r" warn daemon: worker 0 has been in message-received .* for 2\d{3} ms")
        subscriber.expect(b"after")
        relay.wait_log("worker 0 goes on")
        self.assertEqual(relay.status()["hook"]["stuck_workers"], 0)

    @unittest.skipUnless(HAS_SYSTEMD, "built without libsystemd")
    def test_bar_24_the_watchdog_is_withheld_only_when_all_workers_are_stuck(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            path = os.path.join(self.directory(), "notify.sock")
            supervisor.bind(path)
            supervisor.settimeout(patience(10))

            def next_message():
                return supervisor.recv(64 * KIB).decode().splitlines()

            relay = self.start_stuck(
                config={"workers": 2},
                env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"},
            )
            first, second = relay.subscribers(2)
            self.expect_answers(first, second)
            self.say(first, b"stuck")
            relay.wait_log("worker 0 has been in")
            supervisor.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while supervisor.recv(64 * KIB):
                    pass
            supervisor.settimeout(patience(10))
            for _ in range(3):
                self.assertIn("WATCHDOG=1", next_message())
            self.say(second, b"stuck")
            relay.wait_log("worker 1 has been in")
            while not any("all workers are stuck" in line for line in next_message()):
                pass
            for _ in range(3):
                self.assertNotIn("WATCHDOG=1", next_message())
            # The relay itself goes on.
            self.assertEqual(relay.producer().request("relay", "event"), [b"ok", b"2"])
            first.expect(b"event")
            self.stop_in_time(relay)

    def stop_in_time(self, relay):
        """SIGTERM ends it at `drain`, whatever its workers do."""
        began = time.monotonic()
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 0)
        took = time.monotonic() - began
        self.assertGreater(took, 0.9)
        self.assertLess(took, patience(2.5))

    def test_a_second_signal_ends_it_at_once(self):
        relay = self.start_stuck(config={"drain": "60s"})
        subscriber = relay.subscriber()
        self.expect_answers(subscriber)
        self.say(subscriber, b"stuck")
        relay.wait_status(lambda s: s["messages"]["received"] == 2, "it is stuck")
        relay.signal(signal.SIGTERM)
        relay.wait_status(lambda s: s["state"] == "draining", "it drains")
        began = time.monotonic()
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 1)
        self.assertLess(time.monotonic() - began, patience(1))


class Failures(ContainmentCase):
    def test_a_failed_connection_new_closes_the_connection(self):
        relay = self.start(
            lua="""
            event_route["evapi:connection-new"] = function(evapi)
              if evapi.conidx == 1 then
                evapi.relay("never")
                evapi.reply("never")
                error("not this one")
              end
            end
            event_route["evapi:connection-closed"] = function(evapi)
              evapi.relay("closed " .. evapi.conidx .. " " .. evapi.reason)
            end
            """
        )
        stays = relay.subscriber()
        failed = relay.subscriber()
        failed.expect_end("eof")
        self.assertEqual(failed.taken, 0)
        stays.expect(b"closed 1 hook-error")
        status = relay.status()
        self.assertEqual(status["subscribers"]["closed"]["hook-error"], 1)
        self.assertEqual(status["subscribers"]["live"], 1)

    def test_every_failure_of_connection_new_closes(self):
        for outcome, text in (
            ("error", "local x = nil .. 'x'"),
            ("timeout", "while true do end"),
            ("memory", "local t = {} while true do t[#t + 1] = {} end"),
        ):
            with self.subTest(outcome):
                relay = self.start(
                    hook={"timeout": "50ms" if outcome == "timeout" else "5s", "memory": "1MiB"},
                    lua=f'event_route["evapi:connection-new"] = function(evapi) {text} end',
                )
                relay.subscriber().expect_end("eof")
                status = relay.wait_handled()
                self.assertEqual(status["hook"]["failed"][outcome], 1)
                self.assertEqual(status["subscribers"]["closed"]["hook-error"], 1)

    def test_a_failed_message_received_leaves_the_connection_and_drops_its_verdict_whole(self):
        relay = self.start(
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              if evapi.msg == "fail" then
                evapi.relay("never")
                evapi.reply("never")
                evapi.set_tag("never")
                evapi.close()
                error("after all that")
              end
              evapi.reply(tostring(evapi.tag))
              evapi.multicast("never", "never")
            end
            """
        )
        subscriber, other = relay.subscribers(2)
        self.say(subscriber, b"fail", b"x", b"fail", b"x")
        subscriber.expect(b"nil", b"nil")
        relay.wait_handled()
        relay.turn()
        for peer in (subscriber, other):
            self.assertRaises(BlockingIOError, peer.sock.recv, 1)
        hook = relay.status()["hook"]
        self.assertEqual(hook["failed"]["error"], 2)
        self.assertEqual(hook["actions"]["relay"], 0)

    def test_a_failed_connection_closed_still_frees_the_conidx(self):
        relay = self.start(
            lua="""
            event_route["evapi:connection-new"] = function(evapi)
              evapi.reply(tostring(evapi.conidx))
            end
            event_route["evapi:connection-closed"] = function(evapi)
              error("so be it")
            end
            """
        )
        for n in range(3):
            subscriber = relay.subscriber()
            subscriber.expect(b"0")
            subscriber.half_close()
            subscriber.expect_end("eof")
            relay.wait_status(
                lambda s, n=n: s["hook"]["failed"]["error"] == n + 1
                and s["subscribers"]["closing"] == 0,
                "closed",
            )

    def test_an_error_is_logged_with_its_line_and_its_callers(self):
        relay = self.start(
            lua="""-- line 1
            local function inner(t)
              return t.missing.field -- line 3
            end
            local function outer(t)
              return inner(t), "not a tail call" -- line 6
            end
            event_route["evapi:message-received"] = function(evapi)
              local x = outer({}) -- line 9
            end
            """
        )
        subscriber = relay.subscriber()
        self.say(subscriber, b"x")
        script = re.escape(relay.script)
        line = relay.wait_log(rf"^\S+Z error hook: .*{script}:3: .*missing.*$").group()
        for place in ("hook.lua:6", "hook.lua:9", "conidx 0", "message-received"):
            self.assertIn(place, line)
        self.assertIn(f"127.0.0.1:{subscriber.sock.getsockname()[1]}", line)

    def test_a_timeout_is_logged_with_its_line(self):
        relay = self.start(
            lua="""-- line 1
            event_route["evapi:message-received"] = function(evapi)
              while true do end -- line 3
            end
            """
        )
        self.say(relay.subscriber(), b"x")
        relay.wait_log(rf"^\S+Z error hook: .*{re.escape(relay.script)}:3: .*50 ms")

    def test_an_error_is_logged_once_a_second_and_place_with_a_count(self):
        """What is not in a line is in the count of the next, while it goes on."""
        relay = self.start(
            lua="""-- line 1
            event_route["evapi:message-received"] = function(evapi)
              if evapi.msg == "a" then
                error("place a") -- line 4
              else
                error("place b") -- line 6
              end
            end
            """
        )
        subscriber = relay.subscriber()
        began = time.monotonic()
        sent = 0
        while relay.log.count("place a") < 3:
            self.say(subscriber, *[b"a"] * 20)
            sent += 20
            if sent == 20:
                self.say(subscriber, b"b")
            relay.wait_handled(peers=[subscriber])
            self.assertLess(time.monotonic() - began, patience(10))
        took = time.monotonic() - began
        lines = [line for line in relay.log_lines if "place a" in line]
        self.assertLessEqual(len(lines), took + 1.1)
        self.assertEqual(relay.log.count("place b"), 1)  # another place, in the same second
        counts = [int(n) for line in lines for n in re.findall(r"(\d+) more", line)]
        self.assertEqual(len(counts), len(lines) - 1)
        # The last line came somewhere among the last ones.
        self.assertGreater(sum(counts) + len(lines), sent // 2)
        self.assertLessEqual(sum(counts) + len(lines), sent)


class Verdicts(ContainmentCase):
    def test_at_most_1024_actions(self):
        relay = self.start(
            hook={"timeout": "5s"},
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              for n = 1, 1024 do assert(evapi.reply(tostring(n))) end
              assert(not evapi.reply("never") and not evapi.relay("never"))
              assert(not evapi.close() and not evapi.set_tag("never"))
            end
            """,
        )
        subscriber = relay.subscriber()
        for _ in range(2):
            self.say(subscriber, b"x")
            subscriber.expect(*[b"%d" % n for n in range(1, 1025)])
        status = relay.wait_handled()
        self.assertEqual(status["hook"]["failed"]["error"], 0)
        self.assertEqual(status["hook"]["actions"]["reply"], 2048)

    def test_at_most_4_mib(self):
        relay = self.start(
            hook={"timeout": "5s"},
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              local event = ("x"):rep(1 << 20)
              for n = 1, 3 do assert(evapi.relay(event)) end
              assert(evapi.multicast(event:sub(4), "tag"))  -- 4 MiB exactly
              assert(not evapi.relay("x") and not evapi.set_tag("x"))
              assert(evapi.set_tag("") and evapi.close())
            end
            """,
        )
        subscriber = relay.subscriber()
        self.say(subscriber, b"x")
        subscriber.expect(*[b"x" * MIB] * 3)
        subscriber.expect_end("eof")
        self.assertEqual(relay.wait_handled()["hook"]["failed"]["error"], 0)

    def test_no_event_is_larger_than_max_event(self):
        relay = self.start(lua=ACT, max_event="1KiB")
        subscriber = relay.subscriber()
        for verb, arguments in (("relay", 1), ("reply", 1), ("multicast", 2), ("unicast", 2)):
            for size, wanted in ((1024, b"true"), (1025, b"false")):
                message = verb.encode() + b"\t" + b"x" * size + b"\ttag" * (arguments - 1)
                self.say(subscriber, message)
                if wanted == b"true" and arguments == 1:
                    subscriber.expect(b"x" * size)
                subscriber.expect(b"%b %b" % (verb.encode(), wanted))

    def test_a_large_verdict_is_applied_in_one_piece(self):
        """No event of a producer comes between its actions."""
        relay = self.start(
            hook={"timeout": "5s"},
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              for n = 1, 1000 do evapi.relay(evapi.msg .. " " .. n) end
            end
            """,
            slow_subscriber={"policy": "block"},
        )
        subscriber = relay.subscriber()
        producer = relay.producer()
        count = 20
        producer.outgoing += b"".join(wire.data(b"event %d" % n) for n in range(20_000))
        subscriber.outgoing += b"".join(wire.data(b"message %d" % n) for n in range(count))
        pump([producer, subscriber], lambda: len(subscriber.events) == 20_000 + count * 1000, 20)
        events = subscriber.events
        for n in range(count):
            at = events.index(b"message %d 1" % n)
            wanted = [b"message %d %d" % (n, k) for k in range(1, 1001)]
            self.assertEqual(events[at : at + 1000], wanted)


class Sandbox(ContainmentCase):
    def test_nothing_reaches_out_of_the_script(self):
        relay = self.start(
            lua="""
            local absent = {}
            for _, name in ipairs({"io", "package", "debug", "require", "dofile", "loadfile"}) do
              if _G[name] ~= nil then absent[#absent + 1] = name end
            end
            for name in pairs(os) do
              if name ~= "time" and name ~= "date" and name ~= "clock" then
                absent[#absent + 1] = "os." .. name
              end
            end
            if string.dump ~= nil then absent[#absent + 1] = "string.dump" end
            if load("\\27Lua") then absent[#absent + 1] = "bytecode" end
            event_route["evapi:message-received"] = function(evapi)
              evapi.reply("there: " .. table.concat(absent, " "))
            end
            """
        )
        subscriber = relay.subscriber()
        self.say(subscriber, b"x")
        subscriber.expect(b"there: ")

    def test_patterns_can_be_taken_away(self):
        relay = self.start(
            hook={"patterns": False},
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              evapi.reply(tostring(string.match) .. tostring(string.gsub) .. tostring(string.gmatch)
                  .. tostring(string.find))
            end
            """,
        )
        subscriber = relay.subscriber()
        self.say(subscriber, b"x")
        subscriber.expect(b"nil" * 4)


if __name__ == "__main__":
    unittest.main()
