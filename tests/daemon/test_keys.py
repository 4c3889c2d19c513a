"""Every configuration key does what the manual says, one test or more each."""

import os
import resource
import socket
import subprocess
import unittest

import wire
from relay import KIB, MIB, Producer, RelayCase, evrelay, plain_only, pump

HAS_IPV6 = os.path.exists("/proc/net/if_inet6")


class BindAddr(RelayCase):
    def assert_serves(self, relay, *addresses):
        """A subscriber at each address gets one and the same event."""
        subscribers = [relay.subscriber(address) for address in addresses]
        producer = relay.producer()
        self.assertEqual(producer.request("relay", "hello"), [b"ok", b"%d" % len(subscribers)])
        for subscriber in subscribers:
            subscriber.expect(b"hello")

    def test_one_address(self):
        relay = self.start(bind_addr="127.0.0.1:0")
        self.assertEqual(relay.address[0], "127.0.0.1")
        self.assert_serves(relay, relay.address)

    def test_port_0_is_told_in_the_ready_line(self):
        relay = self.start(bind_addr="127.0.0.1:0")
        self.assertGreater(relay.port, 0)
        match = relay.wait_log(
            r"^\S+Z info daemon: ready: subscribers on 127\.0\.0\.1:(\d+), producers on ([^\s;]+)"
        )
        self.assertEqual(int(match[1]), relay.port)
        self.assertEqual(match[2], relay.producer_path)

    def test_a_list(self):
        relay = self.start(bind_addr=["127.0.0.1:0", "127.0.0.2:0"])
        self.assertEqual([host for host, _ in relay.addresses], ["127.0.0.1", "127.0.0.2"])
        self.assert_serves(relay, *relay.addresses)

    @unittest.skipUnless(HAS_IPV6, "no IPv6 here")
    def test_ipv6(self):
        relay = self.start(bind_addr=["[::1]:0", "127.0.0.1:0"])
        self.assertEqual(relay.addresses[0][0], "::1")
        self.assert_serves(relay, *relay.addresses)

    @unittest.skipUnless(HAS_IPV6, "no IPv6 here")
    def test_ipv6_sockets_are_for_ipv6_only(self):
        relay = self.start(bind_addr="[::]:0")
        self.assert_serves(relay, ("::1", relay.port))
        with self.assertRaises(ConnectionRefusedError):
            relay.subscriber(("127.0.0.1", relay.port), wait=False)

    def test_every_ipv4_address(self):
        relay = self.start(bind_addr="0.0.0.0:0")
        self.assert_serves(relay, ("127.0.0.1", relay.port), ("127.0.0.3", relay.port))

    def test_a_unix_socket(self):
        path = os.path.join(self.directory(), "subscribers.sock")
        relay = self.start(bind_addr=["unix:" + path, "127.0.0.1:0"])
        self.assertEqual(relay.addresses[0], path)
        self.assert_serves(relay, *relay.addresses)

    def test_a_host_name(self):
        relay = self.start(bind_addr="localhost:0")
        found = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
        self.assertEqual({host for host, _ in relay.addresses}, {info[4][0] for info in found})
        self.assert_serves(relay, *relay.addresses)

    @plain_only("a flag has no certificates")
    def test_flags_beat_the_file(self):
        home = self.directory()
        path = os.path.join(home, "flag.sock")
        relay = self.start(
            args=["--bind-addr", "127.0.0.2:0", "--bind-addr", "127.0.0.3:0"],
            directory=home,
            bind_addr="127.0.0.1:0",
        )
        self.assertEqual([host for host, _ in relay.addresses], ["127.0.0.2", "127.0.0.3"])
        relay.stop()
        done = evrelay(
            "-c", relay.file, "--producer-socket", "relative.sock", "--log-level", "info", "--check"
        )
        self.assertEqual(done.returncode, 2)
        self.assertIn("relative.sock", done.stderr)
        done = evrelay("serve", "-c", relay.file, "--producer-socket", path, "--check")
        self.assertEqual((done.returncode, done.stdout), (0, "ok\n"))


class Frames(RelayCase):
    def test_netstring_format_false_sends_events_bare(self):
        relay = self.start(netstring_format=False)
        subscriber = relay.subscriber(raw=True)
        producer = relay.producer()
        producer.relay(b"hello", b"\0wor,ld")
        producer.request("relay", "5:hello,")
        subscriber.pump(lambda: len(subscriber.stream) >= 20)
        self.assertEqual(bytes(subscriber.stream), b"hello\0wor,ld5:hello,")

    def test_netstring_format_false_takes_each_chunk_as_a_message(self):
        relay = self.start(netstring_format=False)
        subscriber = relay.subscriber(raw=True)
        for number, chunk in enumerate((b"hello", b"9999999999:", b"\0", b"x" * 30000), 1):
            before = relay.status()["messages"]["bytes"]
            subscriber.send(chunk)
            status = relay.wait_status(
                lambda s, n=before + len(chunk): s["messages"]["bytes"] == n, "received"
            )
            if len(chunk) < 1000:
                self.assertEqual(status["messages"]["received"], number)
        self.assertIsNone(subscriber.ended)

    def test_netstring_format_false_obeys_policies_by_whole_events(self):
        relay = self.start(
            netstring_format=False,
            max_event="64KiB",
            send_buffer="64KiB",
            slow_subscriber={"max_lag": "512KiB", "policy": "skip"},
        )
        stalled = relay.subscriber(receive_buffer=4 * KIB, raw=True)
        stalled.paused = True
        producer = relay.producer()
        events = [(b"<%d " % n).ljust(999, b".") + b">" for n in range(3000)]
        producer.relay(*events)
        producer.ping()
        stalled.paused = False
        stalled.pump(lambda: stalled.stream.endswith(events[-1]))
        self.assertEqual(len(stalled.stream) % 1000, 0)
        got = [bytes(stalled.stream[at : at + 1000]) for at in range(0, len(stalled.stream), 1000)]
        numbers = [int(event[1 : event.index(b" ")]) for event in got]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertTrue(all(event == events[n] for event, n in zip(got, numbers)))
        skipped = relay.status()["deliveries"]["dropped"]["skipped"]
        self.assertGreater(skipped, 0)
        self.assertEqual(skipped + len(got), len(events))

    def test_bad_frame_close(self):
        relay = self.start(bad_frame="close")
        subscriber = relay.subscriber()
        subscriber.send(b"oops")
        subscriber.expect_end("eof")

    def test_bad_frame_discard(self):
        relay = self.start(bad_frame="discard", max_message="1KiB")
        subscriber = relay.subscriber()
        discarded = 0
        for bad in (b"hello", b"5hello,", b"-5:hello,", b"99999999999:", b"2000:x", b"5:hello;"):
            with self.subTest(bad):
                subscriber.send(bad)
                discarded += len(bad)
                relay.wait_status(
                    lambda s, n=discarded: s["messages"]["discarded_bytes"] == n, "discarded"
                )
                before = relay.status()["messages"]["received"]
                subscriber.send(b"5:hello,")
                relay.wait_status(
                    lambda s, n=before: s["messages"]["received"] == n + 1, "the next is heard"
                )
        relay.producer().relay(b"still here")
        subscriber.expect(b"still here")
        self.assertEqual(sum(relay.status()["subscribers"]["closed"].values()), 0)

    def test_bad_frame_discard_keeps_the_frames_before(self):
        relay = self.start(bad_frame="discard")
        subscriber = relay.subscriber()
        subscriber.send(b"1:a,1:b,oops")
        status = relay.wait_status(
            lambda s: s["messages"]["discarded_bytes"] == 4, "the rest is discarded"
        )
        self.assertEqual(status["messages"]["received"], 2)

    def test_bad_frame_discard_still_closes_producers(self):
        relay = self.start(bad_frame="discard")
        producer = relay.producer()
        producer.send(b"oops")
        producer.expect_end("eof")
        self.assertEqual(producer.answers[0][1], b"bad-size")

    def test_max_message(self):
        relay = self.start(max_message=1000)
        subscriber = relay.subscriber()
        subscriber.send(wire.data(b"x" * 1000))
        relay.wait_status(lambda s: s["messages"]["received"] == 1, "received")
        subscriber.send(b"1001:")
        subscriber.expect_end("eof")
        subscriber.close()
        status = relay.wait_status(
            lambda s: s["subscribers"]["closed"]["too-big"] == 1, "closed, too-big"
        )
        self.assertEqual(status["messages"]["received"], 1)

    def test_max_event(self):
        relay = self.start(max_event=1000)
        subscriber = relay.subscriber()
        producer = relay.producer()
        producer.relay(b"x" * 1000)
        subscriber.expect(b"x" * 1000)
        self.assertEqual(producer.request("relay", b"x" * 1001)[:2], [b"error", b"too-big"])
        producer.send(wire.data(b"x" * 1001))
        producer.expect_end("eof")
        self.assertEqual(producer.answers[0][:2], [b"error", b"too-big"])
        # What not even a request may have is refused before it comes.
        producer = relay.producer()
        producer.send(b"%d:" % (1000 + 4 * KIB + 1))
        producer.expect_end("eof")
        self.assertEqual(producer.answers[0][:2], [b"error", b"too-big"])

    def test_max_event_may_be_large(self):
        relay = self.start(max_event="8MiB", slow_subscriber={"max_lag": "32MiB"})
        subscriber = relay.subscriber()
        producer = relay.producer()
        event = os.urandom(8 * MIB)
        producer.send(wire.data(event))
        pump([producer, subscriber], lambda: subscriber.events)
        self.assertTrue(subscriber.events == [event])

    def test_send_buffer(self):
        """What the kernel holds for a subscriber that does not read grows with send_buffer."""
        held = {}
        for size in ("4KiB", "256KiB", "2MiB", "auto"):
            relay = self.start(send_buffer=size)
            subscriber = relay.subscriber(receive_buffer=4 * KIB)
            subscriber.paused = True
            producer = relay.producer()
            producer.relay(*[b"x" * 1000] * 6000)
            producer.ping()
            relay.turn()
            held[size] = 6000 * 1006 - relay.status()["log"]["max_lag"]
            relay.stop()
        self.assertLess(held["4KiB"], 128 * KIB)
        self.assertGreater(held["256KiB"], 2 * held["4KiB"])
        self.assertGreater(held["2MiB"], 2 * held["256KiB"])
        self.assertLess(abs(held["auto"] - held["256KiB"]), 128 * KIB)


class Script(RelayCase):
    """How a script is named and run; what it may do is tested elsewhere."""

    SAY = """
    event_route["evapi:message-received"] = function(evapi)
      evapi.reply("%s")
    end
    """

    def write(self, name):
        path = os.path.join(self.home, name + ".lua")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.SAY % name)
        return path

    def setUp(self):
        self.home = self.directory()

    def assert_answers(self, relay, answer):
        subscriber = relay.subscriber()
        subscriber.send(b"5:hello,")
        subscriber.expect(answer)

    def start_at_home(self, command, **keywords):
        return subprocess.Popen(command, cwd=self.home, **keywords)

    def test_script(self):
        relay = self.start(script=self.write("file"))
        self.assertEqual(relay.status()["hook"]["script"], relay.config["script"])
        self.assert_answers(relay, b"file")

    def test_a_relative_path_begins_at_the_working_directory(self):
        self.write("file")
        self.assert_answers(self.start(script="file.lua", start=self.start_at_home), b"file")

    def test_the_flag_beats_the_file(self):
        flag = self.write("flag")
        self.assert_answers(self.start(script=self.write("file"), args=["--script", flag]), b"flag")
        self.write("hook")
        relay = self.start(args=["--script", "hook.lua"], start=self.start_at_home)
        self.assert_answers(relay, b"hook")

    def test_the_flag_can_take_the_script_away(self):
        relay = self.start(script=self.write("file"), args=["--script", ""])
        subscriber = relay.subscriber()
        subscriber.send(b"5:hello,")
        relay.wait_status(lambda s: s["messages"]["dropped"]["no-hook"] == 1, "dropped")

    def test_workers(self):
        for workers, flags, threads in (
            (1, [], 1),
            (3, [], 3),
            (3, ["--workers", "2"], 2),
            (256, [], 256),
        ):
            with self.subTest(workers=workers, flags=flags):
                relay = self.start(script=self.write("file"), workers=workers, args=flags)
                self.assertEqual(relay.status()["hook"]["workers"], threads)
                # Each meets a worker of its own.
                for subscriber in relay.subscribers(threads):
                    subscriber.send(b"5:hello,")
                    subscriber.expect(b"file")
                self.assertEqual(self.hook_threads(relay), threads)
                relay.stop()

    def test_0_workers_are_1_with_a_notice(self):
        relay = self.start(script=self.write("file"), workers=0)
        self.assert_answers(relay, b"file")
        self.assertEqual(self.hook_threads(relay), 1)
        relay.wait_log(r" info daemon: workers: 0 is read as 1$")

    def test_event_callback_is_for_events_without_a_route(self):
        relay = self.start(
            event_callback="on_event",
            lua="""
            function on_event(name) evapi.relay("callback " .. name) end
            event_route["evapi:message-received"] = function(evapi) evapi.relay("route") end
            """,
        )
        subscriber = relay.subscriber()
        subscriber.expect(b"callback evapi:connection-new")
        subscriber.send(b"5:hello,")
        subscriber.half_close()
        subscriber.expect(b"route", b"callback evapi:connection-closed")

    def test_a_script_that_does_not_load_ends_the_start(self):
        path = os.path.join(self.home, "bad.lua")
        for name, text, place in (
            ("a syntax error", "x = 1\nend\n", ":2:"),
            ("an error of its top level", "\n\nlocal x = nil + 1\n", ":3:"),
            ("a misspelt event", 'event_route["evapi:conection-new"] = print\n', "connection-new"),
            ("a top level without end", "while true do end\n", ":1:"),
            ("no such callback", "function other() end\n", "on_event"),
            ("no file", None, "No such file"),
        ):
            with self.subTest(name):
                if text is None:
                    os.remove(path)
                else:
                    with open(path, "w", encoding="utf-8") as file:
                        file.write(text)
                config = os.path.join(self.home, "bad.yaml")
                with open(config, "w", encoding="utf-8") as file:
                    file.write(f"script: {path}\nevent_callback: on_event\n")
                for check in ([], ["--check"]):
                    done = evrelay("-c", config, *check, env={"RUNTIME_DIRECTORY": self.home})
                    self.assertEqual((done.returncode, done.stdout), (2, ""))
                    self.assertIn(path, done.stderr)
                    self.assertIn(place, done.stderr)
                    self.assertFalse(os.path.exists(os.path.join(self.home, "producer.sock")))

    @staticmethod
    def hook_threads(relay):
        names = []
        for thread in relay.threads():
            with open(f"/proc/{relay.pid}/task/{thread}/comm", encoding="ascii") as file:
                names.append(file.read().strip())
        return sum(name.startswith("evrelay-hook/") for name in names)


class Control(RelayCase):
    def test_the_default_socket_is_beside_the_producers(self):
        relay = self.start()
        path = os.path.join(os.path.dirname(relay.producer_path), "control.sock")
        self.assertEqual(relay.status()["control_socket"], path)

    def test_socket(self):
        path = os.path.join(self.directory(), "elsewhere.sock")
        relay = self.start(control={"socket": path})
        self.assertEqual(relay.status()["control_socket"], path)
        self.assertTrue(os.path.exists(path))
        self.assertFalse(
            os.path.exists(os.path.join(os.path.dirname(relay.producer_path), "control.sock"))
        )

    def test_requests(self):
        relay = self.start()
        self.assertEqual(relay.control("ping"), [b"ok"])
        self.assertEqual(relay.control("status")[0], b"ok")
        for items in (("relay", "x"), ("stat",), ("status", "x"), ("",)):
            with self.subTest(items):
                answer = relay.control(*items)
                self.assertEqual(answer[0], b"error")
        self.assertEqual(relay.status()["events"]["relayed"], 0)

    def test_bad_frames_end_only_that_connection(self):
        relay = self.start()
        for bad in (b"oops", b"5:hello,", b"99999999:", b"3:abc]"):
            with self.subTest(bad):
                peer = Producer(relay.control_path)
                self.addCleanup(peer.close)
                peer.send(bad)
                peer.pump(lambda peer=peer: peer.ended or peer.answers)
                self.assertTrue(peer.ended or peer.answers[0][0] == b"error")
        self.assertEqual(relay.control("ping"), [b"ok"])

    def test_several_at_once(self):
        relay = self.start()
        peers = [Producer(relay.control_path) for _ in range(10)]
        for peer in peers:
            self.addCleanup(peer.close)
            peer.send(wire.list_frame("status"))
        pump(peers, lambda: all(peer.answers for peer in peers))
        self.assertTrue(all(peer.answers[0][0] == b"ok" for peer in peers))


class RuntimeDirectories(RelayCase):
    """producer.socket: the default is the first of the directories that the environment names."""

    def test_default_socket_path(self):
        for name, below in (("RUNTIME_DIRECTORY", ""), ("XDG_RUNTIME_DIR", "evrelay")):
            with self.subTest(name):
                home = self.directory()
                os.makedirs(os.path.join(home, below), exist_ok=True)
                path = os.path.join(home, below, "producer.sock")
                env = {"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": "", name: home}
                relay = self.start(env=env, path=path)
                self.assertEqual(relay.status()["producer_socket"], path)
                relay.producer().ping()


class SmallKeys(RelayCase):
    def test_max_connections_default_is_256(self):
        relay = self.start()
        for _ in range(256):
            relay.producer()
        relay.producer().expect_end(None)
        self.assertEqual(relay.status()["producers"]["refused"]["full"], 1)

    def test_max_clients_default_is_1024(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        relay = self.start()
        relay.subscribers(1024)
        relay.subscriber(wait=False).expect_end(None)
        self.assertEqual(relay.status()["subscribers"]["refused"]["full"], 1)

    def test_max_lag_default_is_16_mib(self):
        relay = self.start()
        stalled = relay.subscriber(receive_buffer=4 * KIB)
        stalled.paused = True
        producer = relay.producer()
        producer.relay(*[b"x" * 60_000] * 270)
        producer.ping()
        self.assertEqual(relay.status()["subscribers"]["live"], 1)
        producer.relay(*[b"x" * 60_000] * 30)
        producer.ping()
        relay.wait_status(lambda s: s["subscribers"]["closed"]["slow-subscriber"] == 1, "closed")


if __name__ == "__main__":
    unittest.main()
