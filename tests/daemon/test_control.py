"""The control port and the operator's commands: clients, close, reload, drain, status --balance."""

import json
import resource
import signal
import subprocess
import unittest

import wire
from relay import EVRELAY, KIB, MIB, SANITIZED, Producer, Relay, RelayCase, evrelay, patience, pump
from scripts import OBSERVE

# Sets the tag that a message names, and answers each message.
TAGS = """
event_route["evapi:connection-new"] = function(evapi) end
event_route["evapi:message-received"] = function(evapi)
  local tag = evapi.msg:match("^tag (.*)$")
  if tag then evapi.set_tag(tag) end
  evapi.reply(evapi.msg)
end
event_route["evapi:connection-closed"] = function(evapi)
  evapi.relay("closed " .. evapi.conidx .. " " .. evapi.reason)
end
"""

# Takes half a second of the processor to load.
SLOW = "local began = os.clock() repeat until os.clock() - began > 0.5\n"

# Does not end loading while a test runs, and nothing can end it.
ENDLESS = 'local x = string.rep("a", 30):match(("a-"):rep(14) .. "b")\n'


class ControlCase(RelayCase):
    def session(self, relay):
        """One more connection to the control port, which has been accepted."""
        peer = Producer(relay.control_path)
        relay.peers.append(peer)
        peer.ping()
        return peer

    def clients(self, relay, *start):
        """What `clients` answers: the connections, and where to go on."""
        answer = relay.control("clients", *start)
        self.assertEqual(answer[0], b"ok", answer)
        part = json.loads(answer[1])
        return part["clients"], part["next"]

    def client(self, relay, conidx):
        return self.clients(relay, str(conidx))[0][0]

    def wait_clients(self, relay, condition, what):
        relay.wait_status(lambda _: condition(self.clients(relay)[0]), what)

    def stalled(self, relay):
        """A subscriber that has 1.2 MB due and does not read, and the events."""
        subscriber = relay.subscriber(receive_buffer=4 * KIB)
        subscriber.paused = True
        events = [(b"%d " % n).ljust(60_000, b"x") for n in range(20)]
        producer = relay.producer()
        producer.relay(*events)
        producer.ping()
        producer.close()
        relay.wait_status(lambda s: s["subscribers"]["blocked"] == 1, "it is blocked")
        return subscriber, events

    def run_command(self, relay, *args):
        return evrelay(*args, "--socket", relay.control_path)

    def begin_command(self, relay, *args):
        """A command that runs beside the test."""
        process = subprocess.Popen(
            [EVRELAY, *args, "--socket", relay.control_path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def assert_error(self, answer, code, text=""):
        self.assertEqual(answer[:2], [b"error", code.encode()])
        self.assertIn(text, answer[2].decode())


class Clients(ControlCase):
    def test_nobody(self):
        relay = self.start()
        self.assertEqual(self.clients(relay), ([], None))
        self.assertEqual(self.clients(relay, "4294967295"), ([], None))
        done = self.run_command(relay, "clients")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "no subscriber is connected\n")
        done = self.run_command(relay, "clients", "--json")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_every_state(self):
        relay = self.start(lua=TAGS, workers=2)
        ending, live, closing = relay.subscribers(3)
        closing.send(b"5:hello,")
        closing.expect(b"hello")
        relay.wait_handled()
        with relay.worker_held(0):
            ending.half_close()
            self.assertEqual(relay.control("close", "2"), [b"ok"])
            live.send(b"5:hello,")
            live.expect(b"hello")
            relay.subscriber(wait=False)
            relay.subscriber(wait=False)
            expected = ["ending", "live", "closing", "live", "admitting"]
            self.wait_clients(relay, lambda c: [o["state"] for o in c] == expected, "all are there")
            self.assertEqual([c["conidx"] for c in self.clients(relay)[0]], [0, 1, 2, 3, 4])

    def test_tag(self):
        relay = self.start(lua=TAGS)
        subscribers = relay.subscribers(3)
        for subscriber, tag in zip(subscribers, (b"a", b"", b"\x1b[2J\xff")):
            subscriber.send(wire.data(b"tag " + tag))
            subscriber.expect(b"tag " + tag)
        tags = [client["tag"] for client in self.clients(relay)[0]]
        self.assertEqual(tags, ["a", "", "\x1b[2J\N{REPLACEMENT CHARACTER}"])
        done = self.run_command(relay, "clients")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertNotIn("\x1b", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^     0  live .* a$")
        self.assertRegex(done.stdout, r"(?m)^     2  live .*  \\x1b\[2J\N{REPLACEMENT CHARACTER}$")
        subscribers[0].send(b"4:tag ,")
        subscribers[0].expect(b"tag ")
        self.assertEqual(self.client(relay, 0)["tag"], "")

    def test_address_and_age(self):
        relay = self.start(bind_addr=["127.0.0.1:0", "[::1]:0", f"unix:{self.directory()}/s"])
        subscribers = [relay.subscriber(address) for address in relay.addresses]
        before = relay.status()["uptime_s"]
        clients, _ = self.clients(relay)
        ports = [subscriber.sock.getsockname()[1] for subscriber in subscribers[:2]]
        self.assertEqual(
            [client["address"] for client in clients],
            [f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", "unix"],
        )
        ages = [client["age_s"] for client in clients]
        self.assertEqual(ages, sorted(ages, reverse=True))
        self.assertLess(ages[0], relay.status()["uptime_s"])
        # Who comes now is younger than what has passed since.
        relay.subscriber()
        self.assertLessEqual(self.client(relay, 3)["age_s"], relay.status()["uptime_s"] - before)
        self.assertGreaterEqual(self.client(relay, 0)["age_s"], ages[0])

    def test_lag_and_unhandled_messages(self):
        relay = self.start(lua=TAGS, send_buffer="4KiB")
        stalled, events = self.stalled(relay)
        lag = self.client(relay, 0)["lag"]
        self.assertEqual(lag, relay.status()["log"]["max_lag"])
        self.assertGreater(lag, sum(map(len, events)) // 2)
        self.assertLess(lag, 2 * sum(map(len, events)))
        with relay.worker_held(0):
            stalled.send(b"1:a,1:b,1:c,")
            self.wait_clients(relay, lambda c: c[0]["unhandled"] == 3, "they wait")
            done = self.run_command(relay, "clients")
            self.assertRegex(done.stdout, r"(?m)^     0  live +\S+  1(\.1)? MiB +3  127\.0\.0\.1:")
        self.wait_clients(relay, lambda c: c[0]["unhandled"] == 0, "they are handled")
        stalled.paused = False
        stalled.pump(lambda: len(stalled.events) == len(events) + 3)
        relay.turn()
        self.assertEqual(self.client(relay, 0)["lag"], 0)

    def test_pages(self):
        """One request is one bounded piece of work, however many are connected."""
        count = 2100
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 3000:
            self.skipTest(f"needs a hard limit of 3000 open files, not {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        relay = self.start(max_clients=count)
        subscribers = relay.subscribers(count)
        gone = (0, 7, 1001, 1002, count - 1)
        for conidx in gone:
            subscribers[conidx].kill()
        left = [conidx for conidx in range(count) if conidx not in gone]
        relay.wait_status(lambda s: s["subscribers"]["live"] == len(left), "some are gone")

        first, following = self.clients(relay)
        self.assertEqual([client["conidx"] for client in first], left[:1000])
        self.assertEqual(following, left[1000])
        second, following = self.clients(relay, str(following))
        self.assertEqual([client["conidx"] for client in second], left[1000:2000])
        self.assertEqual(following, left[2000])
        third, following = self.clients(relay, str(following))
        self.assertEqual([client["conidx"] for client in third], left[2000:])
        self.assertIsNone(following)
        # From anywhere, and up to the last.
        last, following = self.clients(relay, str(left[-1000]))
        self.assertEqual((len(last), following), (1000, None))
        self.assertEqual(self.clients(relay, str(count)), ([], None))

        done = self.run_command(relay, "clients", "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([line["conidx"] for line in lines], left)
        done = self.run_command(relay, "clients")
        self.assertEqual(len(done.stdout.splitlines()), 1 + len(left))
        relay.close_peers()


class Close(ControlCase):
    def test_in_good_order(self):
        relay = self.start(lua=OBSERVE)
        closed, other = relay.subscribers(2)
        relay.wait_handled()
        other.skip_to(b"new 1")
        producer = relay.producer()
        producer.relay(b"before")
        producer.ping()
        self.assertEqual(relay.control("close", "0"), [b"ok"])
        producer.relay(b"after")
        closed.expect_end("eof")
        self.assertEqual(closed.events, [b"new 0", b"new 1", b"before"])
        other.skip_to(b"before")
        other.pump(lambda: len(other.events) == 2)
        self.assertEqual(sorted(other.events), [b"after", b"closed 0 admin"])
        status = relay.wait_status(lambda s: s["subscribers"]["closing"] == 0, "it is gone")
        self.assertEqual(status["subscribers"]["closed"]["admin"], 1)
        self.assertEqual(status["hook"]["runs"]["connection-closed"], 1)
        self.assertEqual(sum(status["deliveries"]["dropped"].values()), 0)
        relay.wait_log(r" relay: subscriber 127\.0\.0\.1:\d+ \(conidx 0\) is closed: admin;")
        self.assert_error(relay.control("close", "0"), "no-connection", "conidx 0")
        # The number is free.
        relay.subscriber()
        relay.wait_handled()
        self.assertEqual(self.client(relay, 0)["state"], "live")

    def test_what_it_has_sent_is_handled(self):
        relay = self.start(lua=OBSERVE)
        closed, other = relay.subscribers(2)
        other.skip_to(b"new 1")
        with relay.worker_held(0):
            closed.send(b"3:one,3:two,")
            relay.wait_status(lambda s: s["messages"]["unhandled"] == 2, "it has spoken")
            self.assertEqual(relay.control("close", "0"), [b"ok"])
            closed.expect_end("eof")
        other.expect(b"message 0 one", b"message 0 two", b"closed 0 admin")

    def test_a_blocked_one_gets_what_was_due(self):
        for lua in (None, OBSERVE):
            with self.subTest(lua=lua):
                relay = self.start(send_buffer="4KiB", lua=lua)
                stalled, events = self.stalled(relay)
                self.assertEqual(relay.control("close", "0"), [b"ok"])
                producer = relay.producer()
                self.assertEqual(producer.request("relay", "after"), [b"ok", b"0"])
                self.assertEqual(relay.status()["subscribers"]["closing"], 1)
                relay.check_balance()
                stalled.paused = False
                stalled.expect_end("eof")
                self.assertEqual([e for e in stalled.events if e != b"new 0"], events)
                relay.wait_status(lambda s: s["subscribers"]["closing"] == 0, "it is gone")

    def test_one_that_is_closing_already(self):
        relay = self.start(lua=TAGS)
        subscriber = relay.subscriber()
        subscriber.send(b"5:hello,")
        subscriber.expect(b"hello")
        with relay.worker_held(0):
            self.assertEqual(relay.control("close", "0"), [b"ok"])
            self.assert_error(relay.control("close", "0"), "closing", "conidx 0")
            done = self.run_command(relay, "close", "0")
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertRegex(done.stderr, "^evrelay close: closing: .*conidx 0")
        subscriber.expect_end("eof")
        status = relay.wait_status(lambda s: s["hook"]["runs"]["connection-closed"] == 1, "once")
        self.assertEqual(status["subscribers"]["closed"]["admin"], 1)

    def test_one_that_is_being_admitted_is_refused(self):
        relay = self.start(lua=OBSERVE, workers=2)
        first, other = relay.subscribers(2)
        relay.wait_handled()
        first.kill()
        other.skip_to(b"closed 0 reset")
        with relay.worker_held(0):
            refused = relay.subscriber()
            self.assertEqual(relay.producer().request("relay", "x"), [b"ok", b"2"])
            self.assertEqual(self.client(relay, 0)["state"], "admitting")
            self.assertEqual(relay.control("close", "0"), [b"ok"])
            refused.expect_end("eof")
            self.assertEqual(refused.taken, 0)
            status = relay.status()
            self.assertEqual(status["subscribers"]["admitting"], 0)
            self.assertEqual(status["subscribers"]["closed"]["admin"], 1)
            self.assertEqual(status["deliveries"]["dropped"]["refused"], 1)
            relay.check_balance(status)
        # Its connection-new has run, so its connection-closed does.
        other.expect(b"x", b"new 0", b"closed 0 admin")

    def test_one_that_ends_goes_at_once(self):
        relay = self.start(lua=OBSERVE, workers=2)
        ends = relay.subscriber()
        relay.wait_handled()
        other = relay.subscriber()
        other.skip_to(b"new 1")
        with relay.worker_held(0):
            ends.half_close()
            self.wait_clients(relay, lambda c: c[0]["state"] == "ending", "it ends")
            producer = relay.producer()
            self.assertEqual(producer.request("relay", "one"), [b"ok", b"2"])
            self.assertEqual(relay.control("close", "0"), [b"ok"])
            self.assertEqual(producer.request("relay", "two"), [b"ok", b"1"])
            ends.expect_end("eof")
            self.assertEqual(ends.events[-1:], [b"one"])
        other.expect(b"one", b"two", b"closed 0 eof")
        self.assertEqual(relay.status()["subscribers"]["closed"]["eof"], 1)

    def test_a_laggard_that_holds_producers_back(self):
        """Closing it lets them go on."""
        relay = self.start(
            send_buffer="16KiB",
            max_event="64KiB",
            slow_subscriber={"policy": "block", "max_lag": "1MiB", "stall_timeout": "10min"},
        )
        stalled = relay.subscriber(receive_buffer=4 * KIB)
        stalled.paused = True
        producer = relay.producer()
        producer.send(wire.data(b"x" * 60_000) * 100)
        producer.pump(lambda: relay.status()["loop"]["holds"] > 0)
        self.assertEqual(relay.control("close", "0"), [b"ok"])
        producer.flush()
        producer.ping()

    def test_the_command(self):
        relay = self.start()
        subscribers = relay.subscribers(2)
        done = self.run_command(relay, "close", "1")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        subscribers[1].expect_end("eof")
        done = self.run_command(relay, "close", "1")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(
            done.stderr, "evrelay close: no-connection: no connection has conidx 1\n"
        )
        done = self.run_command(relay, "close", "one")
        self.assertEqual(done.returncode, 2)
        done = evrelay("close", "0", "--socket", relay.producer_path)
        self.assertEqual(done.returncode, 1)
        self.assertIn("close takes the control socket", done.stderr)
        self.assertEqual(relay.status()["subscribers"]["live"], 1)


class Reload(ControlCase):
    def test_it_is_done_when_it_is_answered(self):
        relay = self.start(lua=OBSERVE, max_event="1KiB")
        producer = relay.producer()
        subscriber = relay.subscriber()
        subscriber.skip_to(b"new 0")
        self.assertEqual(producer.request("relay", "x" * 2000)[1], b"too-big")
        relay.write_config(max_event="2KiB")
        relay.write_script(TAGS)
        self.assertEqual(relay.control("reload"), [b"ok"])
        self.assertEqual(producer.request("relay", "x" * 2000), [b"ok", b"1"])
        subscriber.send(b"5:hello,")
        subscriber.expect(b"x" * 2000, b"hello")
        relay.write_config(max_event="1KiB")
        done = self.run_command(relay, "reload")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(producer.request("relay", "x" * 2000)[1], b"too-big")

    def test_what_needs_a_restart_is_told(self):
        relay = self.start(max_event="1KiB")
        relay.write_config(workers=2, max_event="2KiB", log={"target": "stderr", "level": "info"})
        note = "workers has changed in the file; it needs a restart"
        self.assertEqual(relay.control("reload"), [b"ok", note.encode()])
        self.assertEqual(relay.producer().request("relay", "x" * 2000), [b"ok", b"0"])
        done = self.run_command(relay, "reload")
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.assertEqual(done.stderr, "evrelay reload: done, but\n" + note + "\n")
        relay.write_config(workers=1)
        self.assertEqual(relay.control("reload"), [b"ok"])

    def test_a_bad_one_changes_nothing_and_says_why(self):
        relay = self.start(lua=TAGS)
        relay.write_config(text="max_events: 1KiB\nmax_clients: 5\nwrkers: 1\n")
        answer = relay.control("reload")
        self.assert_error(answer, "reload-failed")
        lines = answer[2].decode().split("\n")
        self.assertEqual(len(lines), 2)
        self.assertIn("evrelay.yaml:1:1: ", lines[0])
        self.assertIn("evrelay.yaml:3:1: ", lines[1])
        done = self.run_command(relay, "reload")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(
            done.stderr.splitlines(), ["evrelay reload: nothing has changed:", *lines]
        )
        relay.write_config()
        relay.write_script("x =\n")
        self.assert_error(relay.control("reload"), "reload-failed", "hook.lua:")
        subscriber = relay.subscriber()
        subscriber.send(b"5:hello,")
        subscriber.expect(b"hello")

    def test_many_at_once(self):
        relay = self.start(lua=TAGS)
        sessions = [self.session(relay) for _ in range(20)]
        for session in sessions:
            session.send(wire.list_frame("reload") + wire.list_frame("ping"))
        relay.signal(signal.SIGHUP)
        pump(sessions, lambda: all(len(session.answers) == 2 for session in sessions))
        for session in sessions:
            self.assertEqual(session.answers, [[b"ok"], [b"ok"]])
        self.assertLessEqual(relay.log.count("reload: done"), len(sessions) + 1)

    def test_one_that_is_asked_for_while_another_is_under_way_begins_after_it(self):
        relay = self.start(lua=TAGS)
        for _ in range(20):
            start = len(relay.log)
            relay.write_config()
            relay.write_script(SLOW + TAGS)
            early, late, later = sessions = [self.session(relay) for _ in range(3)]
            early.send(wire.list_frame("reload"))
            relay.turn()
            # What the first has not read any more.
            relay.write_config(text="max_events: 1KiB\n")
            for session in (late, later):
                session.send(wire.list_frame("reload"))
            pump(sessions, lambda: all(session.answers for session in sessions))
            self.assertEqual(early.answers, [[b"ok"]])
            for session in (late, later):
                self.assert_error(session.answers[0], "reload-failed", "max_events")
            relay.wait_log("reload: nothing has changed", start=start)
            if "another reload follows" in relay.log[start:]:
                break
        else:
            self.fail("none came while another was under way")
        self.assertEqual(relay.log[start:].count("reload: done"), 1)
        self.assertLessEqual(relay.log[start:].count("reload: nothing has changed"), 2)

    def test_reloads_that_are_asked_for_by_signal_are_answered_too(self):
        """There is one stream of reloads, whoever asks."""
        relay = self.start()
        session = self.session(relay)
        for number in range(20):
            relay.signal(signal.SIGHUP)
            session.send(wire.list_frame("reload"))
            relay.signal(signal.SIGHUP)
            self.assertEqual(session.next_answer(), [b"ok"], number)

    def test_an_endless_one(self):
        """A script that does not end loading: others are answered, those who leave take nothing."""
        relay = Relay({"drain": "1s"}, lua=TAGS)
        self._relays.append(relay)
        self.addCleanup(relay.clean_up)
        relay.wait_ready()
        subscriber = relay.subscriber()
        files = relay.open_files()
        relay.write_script(ENDLESS + TAGS)
        first = self.session(relay)
        first.send(wire.list_frame("reload"))
        relay.turn()
        # More than have room at once.
        for _ in range(4):
            sessions = [self.session(relay) for _ in range(20)]
            for session in sessions:
                session.send(wire.list_frame("reload"))
                session.half_close()  # as nc -N does; it still waits
            relay.turn()
            self.assertGreater(relay.open_files(), files + 20)
            for session in sessions:
                self.assertEqual(session.answers, [])
                session.close()
            relay.wait_status(lambda _: relay.open_files() <= files + 4, "they are gone")
        self.assertEqual(relay.control("ping"), [b"ok"])
        self.assertEqual(len(self.clients(relay)[0]), 1)
        self.assertEqual(relay.control("close", "0"), [b"ok"])
        subscriber.expect_end("eof")
        waits = self.session(relay)
        waits.send(wire.list_frame("reload"))
        relay.turn()
        self.assertEqual(first.answers + waits.answers, [])
        self.assertEqual(self.session(relay).request("drain"), [b"ok"])
        for session in (first, waits):
            self.assert_error(session.next_answer(), "draining")
        self.assertEqual(relay.wait(), 0)


class Drain(ControlCase):
    def test_an_idle_relay_ends_at_once(self):
        relay = self.start()
        self.assertEqual(relay.control("drain"), [b"ok"])
        self.assertEqual(relay.wait(), 0)
        relay.wait_log(r" info daemon: control socket: draining 0 subscribers")

    def test_what_is_due_is_delivered_and_the_control_port_answers(self):
        relay = self.start(drain="60s", send_buffer="4KiB")
        stalled, events = self.stalled(relay)
        producer = relay.producer()
        producer.ping()
        self.assertEqual(relay.control("drain"), [b"ok"])
        producer.expect_end("eof")
        self.assertRaises(OSError, relay.producer)
        self.assertRaises(OSError, relay.subscriber, wait=False)
        status = relay.status()
        self.assertEqual(status["state"], "draining")
        relay.check_balance(status)
        self.assertGreater(status["deliveries"]["queued"], 0)
        self.assert_error(relay.control("reload"), "draining")
        done = self.run_command(relay, "reload")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, "^evrelay reload: draining: ")
        self.assertRegex(self.run_command(relay, "status").stdout, "(?m)^! evrelay .* draining for")
        # Once more is no second signal.
        self.assertEqual(relay.control("drain"), [b"ok"])
        self.assertEqual(relay.status()["state"], "draining")
        stalled.paused = False
        stalled.expect_end("eof")
        self.assertEqual(stalled.events, events)
        stalled.close()
        self.assertEqual(relay.wait(), 0)

    def test_one_that_is_closed_while_it_drains(self):
        relay = self.start(drain="60s", lua=OBSERVE, workers=2)
        relay.subscribers(2)
        relay.wait_handled()
        with relay.worker_held(0):
            self.assertEqual(relay.control("drain"), [b"ok"])
            self.wait_clients(relay, lambda c: [o["conidx"] for o in c] == [0], "the other is gone")
            self.assertEqual(self.client(relay, 0)["state"], "ending")
            self.assertEqual(relay.control("close", "0"), [b"ok"])
            relay.peers[0].expect_end("eof")
        relay.close_peers()
        self.assertEqual(relay.wait(), 0)

    def test_the_second_signal_still_ends_it_at_once(self):
        """The first is what a supervisor sends that knows nothing of the drain."""
        relay = self.start(drain="60s", send_buffer="4KiB")
        self.stalled(relay)
        self.assertEqual(relay.control("drain"), [b"ok"])
        relay.signal(signal.SIGTERM)
        relay.wait_log("signal 15: draining already")
        self.assertEqual(relay.status()["state"], "draining")
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 1)

    def test_the_command_waits_for_the_end_of_the_process(self):
        relay = self.start(drain="60s", send_buffer="4KiB")
        stalled, events = self.stalled(relay)
        command = self.begin_command(relay, "drain")
        relay.wait_status(lambda s: s["state"] == "draining", "it drains")
        self.assertIsNone(command.poll())
        stalled.paused = False
        stalled.expect_end("eof")
        self.assertEqual(len(stalled.events), len(events))
        stalled.close()
        output, _ = command.communicate(timeout=patience(10))
        self.assertEqual((command.returncode, output), (0, b""))
        # It was waited for: what it has left behind can be taken at once.
        self.assertEqual(relay.process.poll(), 0)

    def test_the_command_and_a_new_relay(self):
        """Who drains one relay can start the next at the same place."""
        directory = self.directory()
        for _ in range(10):
            relay = self.start(directory=directory)
            done = self.run_command(relay, "drain")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        done = self.run_command(relay, "drain")
        self.assertEqual(done.returncode, 1)
        self.assertIn("the relay is not running", done.stderr)


class Balance(ControlCase):
    def test_it_balances_under_load(self):
        relay = self.start(
            workers=2,
            send_buffer="16KiB",
            slow_subscriber={"policy": "skip", "max_lag": "1MiB"},
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              local index, label = evapi.msg:match("^ask (%d+) (%d+)")
              if index then
                evapi.resume(index, label, "yes")
              elseif evapi.msg == "leave" then
                evapi.close()
              else
                evapi.relay(evapi.msg)
              end
            end
            """,
            **{"async": {"timeout": "50ms"}},
        )
        listeners = relay.subscribers(4)
        stalled = relay.subscriber(receive_buffer=4 * KIB)
        stalled.paused = True
        producer, asker = relay.producer(), relay.producer()

        def answer():
            for listener in listeners:
                asked = [event for event in listener.events if event.startswith(b"ask ")]
                listener.events.clear()
                if listener is listeners[0]:
                    listener.send(b"".join(map(wire.data, asked)))

        def none_waits():
            answer()
            return relay.status()["async"]["waiting"] == 0

        for _ in range(8):
            talker = relay.subscriber()
            listeners.append(talker)
            talker.send(wire.data(b"talk") * 200 + wire.data(b"leave") + wire.data(b"late") * 5)
            producer.send(wire.data(b"x" * 5000) * 100)
            asker.send(wire.list_frame("async_relay", "ask $T(id_index) $T(id_label)", 5000) * 10)
            asker.send(wire.list_frame("async_relay", "let be $T(id_index) $T(id_label)") * 10)
            command = self.begin_command(relay, "status", "--balance")

            def ended(command=command):
                answer()
                return command.poll() is not None

            pump([*listeners, producer, asker], ended)
            output, _ = command.communicate()
            self.assertEqual(command.returncode, 0, output.decode())
            lines = output.decode().splitlines()
            books = [line.split()[0] for line in lines]
            self.assertEqual(books, ["deliveries", "messages", "async"])
            for line in lines:
                self.assertTrue(line.endswith("  ok"), line)
        pump([*listeners, producer, asker], none_waits, what="all requests have ended")
        status = relay.status()
        self.assertGreater(status["deliveries"]["dropped"]["skipped"], 0)
        self.assertGreater(status["messages"]["dropped"]["after-close"], 0)
        self.assertGreater(status["async"]["resumed"], 0)
        self.assertGreater(status["async"]["expired"], 0)
        table = self.run_command(relay, "status").stdout
        self.assertRegex(table, r"(?m)^!   dropped .*skipped \d+")
        self.assertRegex(table, r"(?m)^    dropped      after-close \d+$")
        self.assertRegex(table, r"(?m)^  async          160 suspended, \d+ resumed, \d+ expired\b")


class Hostile(ControlCase):
    """The socket's mode is 0600, but who is let in may still be wrong."""

    def test_requests_that_are_none(self):
        relay = self.start()
        session = self.session(relay)
        for items, code, text in (
            ((), "bad-arguments", "a list of a verb"),
            (("",), "unknown-verb", "known: status, clients, close, reload, drain, ping"),
            (("Status",), "unknown-verb", ""),
            (("x" * 60_000,), "unknown-verb", ""),
            (("status", ""), "bad-arguments", "status takes no operand"),
            (("ping", "x"), "bad-arguments", "ping takes no operand"),
            (("reload", "x"), "bad-arguments", "reload takes no operand"),
            (("drain", "x"), "bad-arguments", "drain takes no operand"),
            (("close",), "bad-arguments", "close takes one conidx"),
            (("close", "0", "1"), "bad-arguments", "close takes one conidx"),
            (("clients", "0", "1"), "bad-arguments", "clients takes one conidx at most"),
            (("ping", *[""] * 20_000), "bad-arguments", "ping takes no operand"),
        ):
            self.assert_error(session.request(*items), code, text)
        for conidx in ("", "-1", "+1", " 1", "1 ", "0x1", "1e3", "4294967296", b"1\0", "9" * 999):
            for verb in ("clients", "close"):
                self.assert_error(session.request(verb, conidx), "bad-arguments", "whole number")
        # Items that are no netstrings.
        session.send(b"3:abc]")
        self.assert_error(session.next_answer(), "bad-arguments")
        for conidx in ("0", "00", "4294967295"):
            self.assert_error(session.request("close", conidx), "no-connection")
        self.assertEqual(session.request("ping"), [b"ok"])

    def test_frames_in_any_pieces(self):
        relay = self.start()
        session = self.session(relay)
        for byte in wire.list_frame("ping") * 3:
            session.send(bytes([byte]))
            relay.turn()
        session.pump(lambda: len(session.answers) == 3)
        session.answers.clear()
        session.send(
            b"".join(wire.list_frame(*items) for items in [("ping",), ("clients",), ("ping", "x")])
            * 500
        )
        session.pump(lambda: len(session.answers) == 1500)
        self.assertEqual(session.answers[::3], [[b"ok"]] * 500)
        self.assertEqual(session.answers[2::3], [session.answers[2]] * 500)

    def test_broken_frames_end_only_that_connection(self):
        relay = self.start()
        for bad, code in (
            (b"5:hello,", "bad-type"),
            (b"x", "bad-size"),
            (b"65537:", "too-big"),
            (b"99999999999:", "bad-size"),
            (wire.list_frame("ping")[:-1] + b"}", "bad-type"),
        ):
            session = self.session(relay)
            session.send(bad)
            self.assert_error(session.next_answer(), code)
            session.expect_end(None)
        for half in (b"9", b"9:6:sta", wire.list_frame("ping")[:-1]):
            session = self.session(relay)
            session.send(half)
            session.half_close()
            session.expect_end("eof")
            self.assertEqual(session.answers, [])
        self.assertEqual(relay.control("ping"), [b"ok"])

    def test_who_does_not_read_holds_up_nobody(self):
        relay = self.start()
        relay.subscribers(500)
        memory = relay.rss()
        deaf = [self.session(relay) for _ in range(10)]
        for session in deaf:
            session.paused = True
            session.send(wire.list_frame("clients") * 1000)
        producer = relay.producer()
        for _ in range(100):
            producer.ping()
            self.assertEqual(relay.control("ping"), [b"ok"])
        if not SANITIZED:
            self.assertLess(relay.rss() - memory, 10 * MIB)
        for session in deaf:
            session.close()
        relay.turn()
        self.assertEqual(relay.control("ping"), [b"ok"])

    def test_surplus_connections_are_closed(self):
        relay = self.start()
        relay.control("ping")
        sessions = [Producer(relay.control_path) for _ in range(80)]
        relay.peers += sessions
        for session in sessions:
            session.send(wire.list_frame("ping"))
        pump(sessions, lambda: all(session.ended or session.answers for session in sessions))
        self.assertEqual(sum(session.answers == [[b"ok"]] for session in sessions), 63)
        self.assertEqual(relay.control("ping"), [b"ok"])


if __name__ == "__main__":
    unittest.main()
