"""Where evapi fails its users and evrelay does not, row by row of its observed behaviour (I1 to
I19)."""

import os
import random
import signal
import socket
import time
import unittest

import wire
from relay import KIB, RelayCase, patience, pump
from scripts import ACT, ECHO, OBSERVE, act


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
        return True
    except OSError:
        return False


class ImproveCase(RelayCase):
    def expect_nothing(self, relay, *subscribers):
        """Nothing is on its way to them."""
        relay.wait_handled()
        relay.turn()
        for subscriber in subscribers:
            self.assertRaises(BlockingIOError, subscriber.sock.recv, 1)


class Reading(ImproveCase):
    def test_i1_no_split_loses_a_frame_or_misreads_one(self):
        relay = self.start(lua=ECHO)
        subscriber = relay.subscriber()
        text = b"15:hello,6:ab,cdef,5:hello, 003:a,b,"
        messages = [b"hello,6:ab,cdef", b"hello", b"a,b"]
        for at in range(1, len(text)):
            with self.subTest(at=at):
                subscriber.send(text[:at])
                relay.turn()
                subscriber.send(text[at:])
                subscriber.expect(*messages)
        for at in range(len(text)):
            subscriber.send(text[at : at + 1])
            relay.status()
        subscriber.expect(*messages)

    def test_i2_reads_that_end_inside_a_frame_garble_nothing(self):
        relay = self.start(lua=ECHO)
        subscriber = relay.subscriber()
        chance = random.Random(2)
        messages = [chance.randbytes(int(2 ** chance.uniform(0, 14))) for _ in range(2000)]
        subscriber.outgoing += b"".join(map(wire.data, messages))
        subscriber.expect(*messages, timeout=20)

    def test_i3_a_busy_server_loses_nothing_at_the_edge_of_a_read(self):
        """All stands in its socket before it reads for the first time."""
        relay = self.start(lua=ECHO)
        subscriber = relay.subscriber()
        relay.turn()
        messages = [b"%d" % n * 20 for n in range(2000)]
        relay.signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, relay.pid, os.WSTOPPED)
            subscriber.send(b"".join(map(wire.data, messages)))
            self.assertEqual(len(subscriber.outgoing), 0)
        finally:
            relay.signal(signal.SIGCONT)
        subscriber.expect(*messages)

    def test_i4_an_empty_frame_takes_nothing_along(self):
        relay = self.start(lua=ECHO)
        subscriber = relay.subscriber()
        subscriber.send(b"0:,5:hello,0:,2:ok,0:,")
        subscriber.expect(b"hello", b"ok")
        self.expect_nothing(relay, subscriber)

    def test_i5_no_client_can_kill_the_server(self):
        relay = self.start(lua=ECHO)
        stays = relay.subscriber()
        for head in (b"2147483647:x", b"2147483640:x", b"4294967301:hello,", b"99999999999:"):
            with self.subTest(head):
                hostile = relay.subscriber()
                hostile.send(head)
                hostile.expect_end("eof")
                self.assertEqual(hostile.taken, 0)
                stays.send(b"5:hello,")
                stays.expect(b"hello")

    def test_i6_one_limit_that_is_refused_when_it_is_read(self):
        relay = self.start(lua=OBSERVE, max_message=40_000)
        observer = relay.subscriber()
        observer.expect(b"new 0")
        subscriber = relay.subscriber()
        observer.expect(b"new 1")
        for size in (32760, 32761, 32762, 40_000):
            message = b"x" * size
            subscriber.send(wire.data(message))
            observer.expect(b"message 1 " + message)
        subscriber.send(b"40001:")
        observer.expect(b"closed 1 too-big")
        subscriber.expect_end("eof")

    def test_i7_a_nul_is_a_byte_like_any_other(self):
        for netstring_format in (True, False):
            with self.subTest(netstring_format=netstring_format):
                relay = self.start(lua=ECHO, netstring_format=netstring_format)
                subscriber = relay.subscriber(raw=True)
                for payload in (b"ab\0cd", b"\0", b"\0\0\0", b"x\0"):
                    data = wire.data(payload) if netstring_format else payload
                    subscriber.send(data)
                    subscriber.pump(lambda size=len(data): len(subscriber.stream) >= size)
                    self.assertEqual(bytes(subscriber.stream), data)
                    subscriber.stream.clear()


class Connections(ImproveCase):
    def test_i8_a_new_connection_inherits_no_tag(self):
        relay = self.start(
            lua="""
            event_route["evapi:connection-new"] = function(evapi)
              evapi.reply(evapi.conidx .. " " .. tostring(evapi.tag))
            end
            event_route["evapi:connection-closed"] = function(evapi)
              evapi.relay("closed with " .. tostring(evapi.tag))
            end
            """
            + ACT
        )
        speaker, first = relay.subscribers(2)
        first.expect(b"1 nil")
        first.send(act("set_tag", b"tag"))
        first.expect(b"set_tag true")
        first.kill()
        speaker.expect(b"0 nil", b"closed with tag")
        heir = relay.subscriber()
        heir.expect(b"1 nil")
        speaker.send(act("multicast", b"for the tag", b"tag") + act("unicast", b"too", b"tag"))
        speaker.expect(b"multicast true", b"unicast true")
        self.expect_nothing(relay, heir)

    def test_i9_half_a_frame_behind_a_close_is_gone(self):
        relay = self.start(lua=ACT)
        first = relay.subscriber()
        first.send(act("close") + b"9:A's")
        first.expect_end("eof")
        first.close()
        relay.wait_status(lambda s: s["subscribers"]["closing"] == 0, "it is gone")
        heir = relay.subscriber()
        heir.send(act("reply", b"hello"))
        heir.expect(b"hello", b"reply true")

    def test_i10_close_in_message_received_closes_and_the_next_client_is_heard(self):
        for workers in (1, 2):
            with self.subTest(workers=workers):
                relay = self.start(
                    workers=workers,
                    lua="""
                    event_route["evapi:message-received"] = function(evapi)
                      if evapi.msg == "close" then
                        evapi.relay("just before")
                        evapi.close()
                      else
                        evapi.reply(evapi.msg)
                      end
                    end
                    """,
                )
                for n in range(10):
                    subscriber = relay.subscriber()
                    subscriber.send(b"5:hello,5:close,")
                    subscriber.expect(b"hello", b"just before")
                    subscriber.expect_end("eof")
                    subscriber.close()
                    relay.wait_status(
                        lambda s, n=n: s["subscribers"]["closed"]["hook"] == n + 1, "closed"
                    )

    def test_i11_frames_behind_the_one_that_closed_are_dropped_and_counted(self):
        relay = self.start(
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              xlog("ran " .. evapi.msg)
              if evapi.msg == "close" then evapi.close() end
            end
            event_route["evapi:connection-closed"] = function(evapi)
              xlog("ran connection-closed")
            end
            """
        )
        relay.subscriber().send(b"1:a,5:close,1:b,1:c,")
        relay.wait_log("ran connection-closed")
        ran = [line.rpartition("ran ")[2] for line in relay.log_lines if "ran " in line]
        self.assertEqual(ran, ["a", "close", "connection-closed"])
        messages = relay.wait_handled()["messages"]
        self.assertEqual((messages["handled"], messages["dropped"]["after-close"]), (2, 2))

    def test_i12_one_client_that_does_not_read_stops_nobody(self):
        relay = self.start(lua=OBSERVE)
        stalled = relay.subscriber(receive_buffer=4 * KIB)
        stalled.paused = True
        reads = relay.subscriber()
        reads.skip_to(b"new 1")
        message = b"x" * 60_000
        for _ in range(100):  # 6 MB
            reads.send(wire.data(message))
            reads.expect(b"message 1 " + message)
        relay.producer().relay(b"relayed")
        reads.expect(b"relayed")
        relay.subscriber()
        reads.expect(b"new 2")
        self.assertEqual(relay.status()["subscribers"]["blocked"], 1)

    def test_i13_a_write_never_ends_in_mid_frame_with_another_behind(self):
        """Closed for its lag, the last frame may be cut; with skip no frame ever is."""
        for policy in ("disconnect", "skip"):
            with self.subTest(policy=policy):
                relay = self.start(
                    lua=OBSERVE,
                    send_buffer="32KiB",
                    slow_subscriber={"policy": policy, "max_lag": "1MiB"},
                )
                slow = relay.subscriber(receive_buffer=4 * KIB)
                slow.paused = True
                reads = relay.subscriber()
                for n in range(40):
                    message = (b"%d " % n).ljust(50_000, b".")
                    reads.send(wire.data(message))
                    reads.skip_to(b"message 1 " + message)
                slow.paused = False  # its decoder accepts nothing but whole frames
                if policy == "disconnect":
                    slow.expect_end("reset")
                    relay.wait_status(
                        lambda s: s["subscribers"]["closed"]["slow-subscriber"] == 1, "closed"
                    )
                else:
                    last = b"message 1 " + message
                    slow.pump(lambda last=last: slow.events[-1:] == [last])
                numbers = [int(e.split()[2]) for e in slow.events if e.startswith(b"message")]
                self.assertEqual(numbers, sorted(set(numbers)))
                self.assertLess(len(numbers), 40)


class Workers(ImproveCase):
    def test_i14_messages_of_one_client_run_in_order(self):
        relay = self.start(
            workers=4,
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              evapi.relay(evapi.conidx .. " " .. evapi.msg)
            end
            """,
        )
        subscribers = relay.subscribers(8)
        for subscriber in subscribers:
            subscriber.send(b"".join(wire.data(b"%d" % n) for n in range(300)))
        observer = subscribers[7]
        pump(subscribers, lambda: len(observer.events) == 8 * 300)
        for conidx in range(8):
            prefix = b"%d " % conidx
            numbers = [int(e.split()[1]) for e in observer.events if e.startswith(prefix)]
            self.assertEqual(numbers, list(range(300)))

    def test_i15_an_idle_server_handles_a_message_at_once(self):
        relay = self.start(lua=ECHO, workers=2)
        subscriber = relay.subscriber()
        relay.wait_handled()
        began = time.monotonic()
        for _ in range(20):  # it is idle before each
            subscriber.send(b"5:hello,")
            subscriber.expect(b"hello")
        self.assertLess(time.monotonic() - began, patience(1))  # evapi: 7 s at least

    def test_i16_a_message_whose_sender_has_left_is_still_that_senders(self):
        relay = self.start(
            workers=2,
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              evapi.set_tag("left")
              evapi.relay("message from " .. evapi.srcport)
            end
            event_route["evapi:connection-closed"] = function(evapi)
              evapi.relay("closed " .. evapi.srcport)
            end
            """,
        )
        sender = relay.subscriber()
        observer = relay.subscriber()  # of the other worker
        port = sender.sock.getsockname()[1]
        with relay.worker_held(0):
            received = relay.status()["messages"]["received"]
            sender.send(b"5:hello,")
            relay.wait_status(lambda s: s["messages"]["received"] > received, "received")
            sender.kill()
            relay.wait_status(lambda s: s["subscribers"]["live"] == 1, "it has left")
            late = relay.subscriber()  # conidx 2, as 0 is not free: of the worker that is held
        observer.expect(b"message from %d" % port, b"closed %d" % port)
        heir = relay.subscriber()
        observer.send(b"2:me,")  # and so it has the tag
        me = b"message from %d" % observer.sock.getsockname()[1]
        late.expect(b"message from %d" % port, b"closed %d" % port, me)
        heir.expect(me)
        self.assertEqual(relay.status()["hook"]["stale_actions"], 1)  # the set_tag

    def test_i16_an_answer_to_one_that_half_closed_arrives(self):
        relay = self.start(lua=ECHO, workers=2)
        for n in range(20):
            subscriber = relay.subscriber()
            subscriber.send(b"5:hello,2:%02d," % n)
            subscriber.half_close()
            subscriber.expect(b"hello", b"%02d" % n)
            subscriber.expect_end("eof")

    def test_i17_a_handler_that_takes_long_holds_up_no_delivery_and_no_accept(self):
        relay = self.start(lua=OBSERVE)
        subscriber = relay.subscriber()
        subscriber.expect(b"new 0")
        with relay.worker_held(0):
            subscriber.send(b"5:hello,")
            producer = relay.producer()
            for n in range(50):
                self.assertEqual(producer.request("relay", str(n)), [b"ok", b"1"])
                subscriber.expect(b"%d" % n)
            late = relay.subscriber()
            self.assertEqual(relay.status()["subscribers"]["admitting"], 1)
            self.assertEqual(producer.request("relay", "late"), [b"ok", b"2"])
            subscriber.expect(b"late")
        subscriber.expect(b"message 0 hello", b"new 1")
        late.expect(b"late", b"message 0 hello", b"new 1")

    @unittest.skipUnless(has_ipv6(), "there is no IPv6 here")
    def test_i18_ipv6_can_be_bound(self):
        relay = self.start(
            bind_addr="[::1]:0",
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              evapi.reply(evapi.srcaddr .. " " .. evapi.srcport)
            end
            """,
        )
        subscriber = relay.subscriber()
        subscriber.send(b"1:x,")
        subscriber.expect(b"::1 %d" % subscriber.sock.getsockname()[1])

    def test_i19_kemi_refuses_empty_data_and_empty_tags(self):
        relay = self.start(
            event_callback="on_event",
            lua="""
            function on_event(name)
              if name == "evapi:message-received" then
                KSR.evapi.set_tag("tag")
                local results = {
                  KSR.evapi.relay(""), KSR.evapi.relay_multicast("", "tag"),
                  KSR.evapi.relay_unicast("", "tag"), KSR.evapi.relay_multicast("x", ""),
                  KSR.evapi.relay_unicast("x", ""),
                }
                KSR.evapi.relay("results " .. table.concat(results, " "))
              end
              return 1
            end
            """,
        )
        subscriber, other = relay.subscribers(2)
        subscriber.send(b"1:x,")
        subscriber.expect(b"results -1 -1 -1 -1 -1")
        other.expect(b"results -1 -1 -1 -1 -1")
        self.expect_nothing(relay, subscriber, other)


if __name__ == "__main__":
    unittest.main()
