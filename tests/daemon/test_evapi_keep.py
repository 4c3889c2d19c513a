"""What existing clients and scripts of evapi rely on, row by row of its observed behaviour (K1 to
K27), and the examples of its manual."""

import os
import random
import socket
import time
import unittest

import wire
from relay import KIB, SCALE, RelayCase, StartFailed, patience, plain_only, pump
from scripts import ACT, ECHO, OBSERVE, act

# The manual's examples 1.3 and 1.4.
EXAMPLE_1_3 = b'46:{ "event": "test",\n "data": { "fU": "test" }\n},'
EXAMPLE_1_4 = b'47:{\n "event": "test",\n "data": { "fU": "test" }\n},'

MALFORMED = [
    b"hello",
    b"+5:hello,",
    b"-5:hello,",
    b"0x5:hello,",
    b"5 :hello,",
    b":hello,",
    b"5hello,",
    b"5:hello;",
    b"5:hello\n",
    b"2147483648:",
]


class KeepCase(RelayCase):
    def expect_bytes(self, subscriber, *wanted):
        wanted = b"".join(wanted)
        subscriber.pump(lambda: len(subscriber.stream) >= len(wanted) or subscriber.ended)
        self.assertEqual(bytes(subscriber.stream), wanted)
        subscriber.stream.clear()

    def expect_nothing(self, relay, *subscribers):
        """Nothing is on its way to them."""
        relay.wait_handled()
        relay.turn()
        for subscriber in subscribers:
            self.assertRaises(BlockingIOError, subscriber.sock.recv, 1)

    def do(self, subscriber, *words, wanted=True):
        """Has ACT do it for this subscriber; it returns what is wanted."""
        subscriber.send(act(*words))
        subscriber.expect(b"%b %b" % (words[0].encode(), b"true" if wanted else b"false"))


class FramingOut(KeepCase):
    def test_k1_the_examples_of_the_manual_byte_for_byte(self):
        relay = self.start(
            lua=r"""
            local fU = "test"
            event_route["evapi:message-received"] = function(evapi)
              evapi.relay("{ \"event\": \"test\",\n \"data\": { \"fU\": \"" .. fU .. "\" }\n}")
              evapi.relay("{\n \"event\": \"test\",\n \"data\": { \"fU\": \"" .. fU .. "\" }\n}")
            end
            """
        )
        subscriber = relay.subscriber(raw=True)
        subscriber.send(b"1:x,")
        self.expect_bytes(subscriber, EXAMPLE_1_3, EXAMPLE_1_4)

    def test_k1_size_colon_data_comma_for_every_size(self):
        relay = self.start(lua=ECHO)
        subscriber = relay.subscriber(raw=True)
        for size in (1, 9, 10, 99, 100, 999, 1000, 9999, 10000, 32767, 32768, 32769, 60000):
            with self.subTest(size):
                payload = os.urandom(size)
                subscriber.send(b"%d:%b," % (size, payload))
                self.expect_bytes(subscriber, b"%d:%b," % (size, payload))

    def test_k1_the_data_is_not_evaluated(self):
        relay = self.start(lua=ECHO)
        subscriber = relay.subscriber()
        for payload in (b"%s%n%d", b"$fU $$ $var(x)", b"$T(id_index)", b"\\n\\0", b"\0\r\n\xff"):
            subscriber.send(wire.data(payload))
            subscriber.expect(payload)

    def test_k2_empty_data_is_refused_and_nothing_is_sent(self):
        relay = self.start(lua=ACT)
        subscriber, other = relay.subscribers(2)
        self.do(subscriber, "set_tag", b"tag")
        self.do(other, "set_tag", b"tag")
        self.do(subscriber, "relay", b"", wanted=False)
        self.do(subscriber, "multicast", b"", b"tag", wanted=False)
        self.do(subscriber, "unicast", b"", b"tag", wanted=False)
        self.do(subscriber, "reply", b"", wanted=False)
        answer = relay.producer().request("relay", "")
        self.assertEqual(answer[:2], [b"error", b"bad-arguments"])
        self.expect_nothing(relay, subscriber, other)


class FramingIn(KeepCase):
    def test_k3_any_number_of_frames_with_white_space_between(self):
        relay = self.start(lua=ECHO)
        subscriber = relay.subscriber()
        for text, messages in (
            (b"1:a,2:bc,3:def,", [b"a", b"bc", b"def"]),
            (b"5:hello,\r\n5:hello,\r\n", [b"hello", b"hello"]),
            (b" \t\r\n 1:a,\t\t1:b, \n", [b"a", b"b"]),
            (b"005:hello,0000000001:x,", [b"hello", b"x"]),
            (b"4:\0,\0:,3:,,,,8:5:hello,,", [b"\0,\0:", b",,,", b"5:hello,"]),
            (b"1:x," * 1000, [b"x"] * 1000),
        ):
            with self.subTest(text[:40]):
                subscriber.send(text)
                subscriber.expect(*messages)

    def test_k4_a_frame_that_is_not_there_yet_waits_per_connection(self):
        relay = self.start(lua=ECHO)
        one, two = relay.subscribers(2)
        one.send(b"10:one be")
        two.send(b"10:two b")
        relay.turn()
        self.expect_nothing(relay, one, two)
        two.send(b"egins,")
        two.expect(b"two begins")
        one.send(b"gins,")
        one.expect(b"one begins")

    def test_k5_discard_drops_what_has_been_read_and_stays(self):
        relay = self.start(lua=ECHO, bad_frame="discard")
        subscriber = relay.subscriber()
        for number in range(200):
            segment = MALFORMED[number % len(MALFORMED)]
            size = relay.status()["messages"]["discarded_bytes"] + len(segment)
            subscriber.send(segment)
            relay.wait_status(
                lambda s, size=size: s["messages"]["discarded_bytes"] == size, "discarded"
            )
        self.expect_nothing(relay, subscriber)
        subscriber.send(b"5:hello,")
        subscriber.expect(b"hello")
        # What stands behind the error in the same read goes with it.
        subscriber.send(b"oops5:hello,")
        relay.wait_status(lambda s: s["messages"]["discarded_bytes"] == size + 12, "discarded")
        subscriber.send(b"2:ok,")
        subscriber.expect(b"ok")

    def test_k5_close_is_the_default(self):
        relay = self.start(lua=OBSERVE)
        observer = relay.subscriber()
        observer.expect(b"new 0")
        for segment in MALFORMED:
            with self.subTest(segment):
                subscriber = relay.subscriber()
                subscriber.send(b"4:good," + segment)
                subscriber.expect_end("eof")
                subscriber.close()
                observer.expect(b"new 1", b"message 1 good")
                observer.pump(lambda: observer.events)
                self.assertRegex(observer.events.pop(), b"^closed 1 (bad-size|bad-type|too-big)$")
                relay.wait_status(lambda s: s["subscribers"]["closing"] == 0, "it is gone")

    def test_k6_an_empty_frame_is_no_event(self):
        relay = self.start(lua=OBSERVE)
        subscriber = relay.subscriber()
        subscriber.expect(b"new 0")
        subscriber.send(b"0:,")
        relay.turn()
        self.expect_nothing(relay, subscriber)
        subscriber.send(b"0:,0:,1:a,0:,1:b,0:,")
        subscriber.expect(b"message 0 a", b"message 0 b")


class Delivery(KeepCase):
    def test_k7_relay_reaches_everyone_tagged_or_not_the_sender_too(self):
        relay = self.start(lua=ACT)
        sender, tagged, other = relay.subscribers(3)
        self.do(tagged, "set_tag", b"tag")
        sender.send(act("relay", b"hello"))
        sender.expect(b"hello", b"relay true")
        tagged.expect(b"hello")
        other.expect(b"hello")

    def test_k7_unheard_it_succeeds_and_nothing_is_kept(self):
        relay = self.start(
            lua="""
            event_route["evapi:connection-closed"] = function(evapi)
              xlog("unheard: " .. tostring(evapi.relay("unheard")))
            end
            """
        )
        relay.subscriber().kill()
        relay.wait_log("unheard: true")
        relay.wait_status(lambda s: s["events"]["relayed"] == 1, "relayed")
        self.assertEqual(relay.producer().request("relay", "unheard"), [b"ok", b"0"])
        self.expect_nothing(relay, relay.subscriber())

    def test_k7_four_producers_at_once_one_order_for_all(self):
        relay = self.start(lua=OBSERVE, slow_subscriber={"policy": "block"})
        subscribers = relay.subscribers(5)
        for subscriber in subscribers:
            subscriber.skip_to(b"new 4")
        producers = [relay.producer() for _ in range(4)]
        for name, producer in enumerate(producers):
            frames = [wire.data(b"%d %d " % (name, n) + b"x" * (n % 700)) for n in range(300)]
            producer.outgoing += b"".join(frames)
        for n in range(100):
            subscribers[0].outgoing += wire.data(b"%d" % n)
        count = 4 * 300 + 100
        pump(producers + subscribers, lambda: all(len(s.events) >= count for s in subscribers))
        order = subscribers[4].events
        for subscriber in subscribers:
            self.assertTrue(subscriber.events == order, "two saw different sequences")
        for name in (b"0", b"1", b"2", b"3"):
            numbers = [int(e.split()[1]) for e in order if e.split()[0] == name]
            self.assertEqual(numbers, list(range(300)))
        said = [int(e.split()[2]) for e in order if e.startswith(b"message 0")]
        self.assertEqual(said, list(range(100)))

    def test_k8_one_tag_of_up_to_63_bytes(self):
        relay = self.start(lua=ACT)
        speaker, subscriber = relay.subscribers(2)

        def tags_of_subscriber(*tags):
            """Exactly these of all that were ever set."""
            for tag in tried:
                self.do(speaker, "multicast", b"to " + tag[:9], tag, wanted=len(tag) <= 63)
            subscriber.expect(*[b"to " + tag[:9] for tag in tags])
            self.expect_nothing(relay, subscriber)

        longest, any_bytes = b"x" * 63, bytes(range(256))[10:73]
        tried = [b"a", longest, any_bytes, b"A", b"aa", b"x" * 62, longest + b"x"]
        for tag in (b"a", longest, any_bytes):
            self.do(subscriber, "set_tag", tag)
            tags_of_subscriber(tag)
        self.do(subscriber, "set_tag", longest + b"x", wanted=False)
        tags_of_subscriber(any_bytes)
        self.do(subscriber, "set_tag", b"")
        tags_of_subscriber()

    def test_k9_multicast_is_for_all_that_have_the_tag(self):
        relay = self.start(lua=ACT)
        speaker, first, second, other = relay.subscribers(4)
        self.do(first, "set_tag", b"tag")
        self.do(second, "set_tag", b"tag")
        self.do(other, "set_tag", b"Tag")
        self.do(speaker, "multicast", b"hello", b"tag")
        first.expect(b"hello")
        second.expect(b"hello")
        self.do(speaker, "multicast", b"unheard", b"nobody")
        self.do(speaker, "multicast", b"refused", b"", wanted=False)
        self.expect_nothing(relay, first, second, other, speaker)

    def test_k9_unicast_is_for_the_lowest_conidx_that_has_the_tag(self):
        relay = self.start(
            lua=ACT
            + """
            event_route["evapi:connection-closed"] = function(evapi)
              evapi.relay("closed " .. evapi.conidx)
            end
            """
        )
        lowest = relay.subscriber()
        speaker, first, second = relay.subscribers(3)
        for subscriber in (second, first):
            self.do(subscriber, "set_tag", b"tag")
        for n in range(3):
            self.do(speaker, "unicast", b"%d" % n, b"tag")
            first.expect(b"%d" % n)
        self.expect_nothing(relay, second)
        # The youngest connection, but the lowest conidx.
        lowest.kill()
        for subscriber in (speaker, first, second):
            subscriber.expect(b"closed 0")
        youngest = relay.subscriber()
        self.do(youngest, "set_tag", b"tag")
        for n in range(3):
            self.do(speaker, "unicast", b"%d" % n, b"tag")
            youngest.expect(b"%d" % n)
        self.do(speaker, "unicast", b"unheard", b"nobody")
        self.do(speaker, "unicast", b"refused", b"", wanted=False)
        self.expect_nothing(relay, first, second, youngest, speaker)

    def test_k10_relay_in_connection_new_reaches_the_new_client_too(self):
        relay = self.start(lua=OBSERVE)
        first = relay.subscriber()
        first.expect(b"new 0")
        second = relay.subscriber()
        second.expect(b"new 1")
        first.expect(b"new 1")

    def test_k10_relay_in_connection_closed_reaches_the_others_and_one_that_half_closed(self):
        relay = self.start(lua=OBSERVE)
        stays, leaves = relay.subscribers(2)
        stays.skip_to(b"new 1")
        leaves.half_close()
        stays.expect(b"closed 1 eof")
        leaves.expect_end("eof")
        self.assertEqual(leaves.events[-1], b"closed 1 eof")

    def test_k11_relay_then_close_in_one_route_the_data_then_eof(self):
        relay = self.start(
            lua="""
            event_route["evapi:connection-new"] = function(evapi)
              if evapi.conidx == 2 then
                evapi.relay("goodbye at once")
                evapi.close()
              end
            end
            event_route["evapi:message-received"] = function(evapi)
              evapi.relay("goodbye")
              evapi.close()
            end
            """
        )
        stays, leaves = relay.subscribers(2)
        refused = relay.subscriber()
        refused.expect(b"goodbye at once")
        refused.expect_end("eof")
        leaves.send(b"1:x,")
        leaves.expect(b"goodbye at once", b"goodbye")
        leaves.expect_end("eof")
        stays.expect(b"goodbye at once", b"goodbye")

    def test_k12_a_client_that_stops_reading_and_resumes_gets_everything(self):
        relay = self.start(lua=OBSERVE)
        subscriber = relay.subscriber(receive_buffer=4 * KIB)
        subscriber.expect(b"new 0")
        subscriber.paused = True
        producer = relay.producer()
        events = [(b"%d " % n).ljust(30_000, b".") for n in range(120)]
        for event in events:
            self.assertEqual(producer.request("relay", event), [b"ok", b"1"])
        self.assertEqual(relay.status()["subscribers"]["blocked"], 1)
        subscriber.paused = False
        subscriber.expect(*events)


class ConnectionsAndEvents(KeepCase):
    def test_k13_new_then_messages_then_closed(self):
        relay = self.start(lua=OBSERVE)
        observer = relay.subscriber()
        observer.expect(b"new 0")
        talks = relay.subscriber()
        observer.expect(b"new 1")  # before any byte
        talks.send(b"".join(wire.data(b"%d" % n) for n in range(50)))
        talks.half_close()
        observer.expect(*[b"message 1 %d" % n for n in range(50)], b"closed 1 eof")
        talks.expect_end("eof")
        breaks = relay.subscriber()
        breaks.send(b"1:x,")
        observer.expect(b"new 1", b"message 1 x")
        breaks.kill()
        observer.expect(b"closed 1 reset")
        self.expect_nothing(relay, observer)
        self.assertEqual(
            relay.status()["hook"]["runs"],
            {"connection-new": 3, "message-received": 51, "connection-closed": 2},
        )

    def test_k14_connection_closed_runs_once_after_a_close_by_the_script(self):
        relay = self.start(
            lua=OBSERVE
            + """
            local say = event_route["evapi:message-received"]
            event_route["evapi:message-received"] = function(evapi)
              say(evapi)
              evapi.close()
            end
            """
        )
        observer = relay.subscriber()
        observer.expect(b"new 0")
        relay.subscriber().send(b"1:x,")
        observer.expect(b"new 1", b"message 1 x", b"closed 1 hook")
        self.expect_nothing(relay, observer)

    def test_k14_none_for_clients_over_the_limit(self):
        relay = self.start(lua=OBSERVE, max_clients=1)
        observer = relay.subscriber()
        observer.expect(b"new 0")
        relay.subscriber(wait=False).expect_end(None)
        relay.wait_status(lambda s: s["subscribers"]["refused"]["full"] == 1, "refused")
        self.expect_nothing(relay, observer)

    def test_k15_the_variables_in_all_three_routes(self):
        relay = self.start(
            lua="""
            local function say(evapi)
              local index, port = evapi.conidx, evapi.srcport
              return math.type(index) .. " " .. index .. " " .. evapi.srcaddr .. " " ..
                  math.type(port) .. " " .. port .. " " .. tostring(evapi.msg)
            end
            event_route["evapi:connection-new"] = function(evapi)
              evapi.relay("new " .. say(evapi))
            end
            event_route["evapi:message-received"] = function(evapi)
              evapi.relay("message " .. say(evapi))
            end
            event_route["evapi:connection-closed"] = function(evapi)
              evapi.relay("closed " .. say(evapi))
            end
            """
        )
        observer = relay.subscriber()
        observer.pump(lambda: observer.events)
        observer.events.clear()
        subscriber = relay.subscriber()
        subscriber.send(b"5:hello,")
        who = b"integer 1 127.0.0.1 integer %d " % subscriber.sock.getsockname()[1]
        observer.expect(b"new " + who + b"nil", b"message " + who + b"hello")
        subscriber.kill()
        observer.expect(b"closed " + who + b"nil")

    def test_k15_after_close_the_variables_stay_and_the_actions_fail(self):
        relay = self.start(
            lua="""
            event_route["evapi:message-received"] = function(evapi)
              local first = evapi.close()
              local second, tag = evapi.close(), evapi.set_tag("tag")
              xlog("close " .. tostring(first) .. ", then " .. tostring(second) .. " " ..
                  tostring(tag) .. " " .. evapi.srcaddr .. " " .. evapi.srcport .. " " ..
                  evapi.conidx .. " " .. evapi.msg)
            end
            """
        )
        subscriber = relay.subscriber()
        subscriber.send(b"5:hello,")
        port = subscriber.sock.getsockname()[1]
        relay.wait_log(f"close true, then false false 127.0.0.1 {port} 0 hello$")

    def test_k16_what_actions_return(self):
        relay = self.start(
            event_callback="on_event",
            lua="""
            local outside = KSR.evapi.close()
            function on_event(name)
              if name ~= "evapi:message-received" then return 1 end
              local results = {
                outside, KSR.evapi.relay("x"), KSR.evapi.relay(""),
                KSR.evapi.relay_unicast("x", "t"), KSR.evapi.relay_multicast("x", "t"),
                KSR.evapi.set_tag("t"),
                KSR.evapi.set_tag(string.rep("t", 64)), KSR.evapi.close(), KSR.evapi.close(),
                KSR.evapi.set_tag("t"),
              }
              KSR.info("results " .. table.concat(results, " ") .. "\\n")
              return 1
            end
            """,
        )
        subscriber = relay.subscriber()
        subscriber.send(b"1:x,")
        relay.wait_log("results -1 1 -1 1 1 1 -1 1 -1 -1$")
        subscriber.expect(b"x")
        subscriber.expect_end("eof")

    def test_k17_the_lowest_free_conidx_is_taken(self):
        relay = self.start(lua=OBSERVE)
        subscribers = relay.subscribers(5)
        observer = subscribers[4]
        observer.skip_to(b"new 4")
        for conidx in (3, 1):
            subscribers[conidx].kill()
            observer.expect(b"closed %d reset" % conidx)
        for conidx in (1, 3, 5):
            relay.subscriber()
            observer.expect(b"new %d" % conidx)

    def test_k18_one_more_than_max_clients_is_closed_at_once(self):
        relay = self.start(lua=OBSERVE, max_clients=8)
        subscribers = relay.subscribers(8)
        relay.wait_handled()
        for _ in range(4):
            surplus = relay.subscriber(wait=False)
            surplus.send(b"5:hello,")
            surplus.expect_end(None)
        relay.wait_status(lambda s: s["subscribers"]["refused"]["full"] == 4, "refused")
        observer = subscribers[7]
        observer.skip_to(b"new 7")
        self.expect_nothing(relay, observer)
        # A place that gets free is taken by the next.
        subscribers[2].kill()
        observer.expect(b"closed 2 reset")
        relay.subscriber().expect(b"new 2")

    def test_k18_twelve_at_once_are_no_problem(self):
        relay = self.start(lua=OBSERVE)
        subscribers = relay.subscribers(12)
        pump(subscribers, lambda: all(b"new 11" in s.events for s in subscribers))
        self.assertEqual(subscribers[0].events, [b"new %d" % n for n in range(12)])

    def test_k19_a_client_that_ends_its_side_is_handled_answered_closed(self):
        relay = self.start(
            lua=OBSERVE
            + """
            local say = event_route["evapi:message-received"]
            event_route["evapi:message-received"] = function(evapi)
              say(evapi)
              evapi.reply(evapi.msg)
            end
            """
        )
        observer = relay.subscriber()
        observer.expect(b"new 0")
        subscriber = relay.subscriber()
        subscriber.send(b"3:one,3:two,")
        subscriber.half_close()
        heard = [b"message 1 one", b"message 1 two", b"closed 1 eof"]
        observer.expect(b"new 1", *heard)
        subscriber.expect_end("eof")
        self.assertEqual(
            subscriber.events, [b"new 1", heard[0], b"one", heard[1], b"two", heard[2]]
        )

    def test_k20_an_end_in_mid_frame_leaves_nothing_behind(self):
        relay = self.start(lua=ECHO)
        for end in ("kill", "close", "half_close"):
            with self.subTest(end):
                subscriber = relay.subscriber()
                subscriber.send(b"9:half a f")
                relay.turn()
                getattr(subscriber, end)()
                relay.wait_status(lambda s: s["subscribers"]["live"] == 0, "it is gone")
                heir = relay.subscriber()
                heir.send(b"5:hello,")
                heir.expect(b"hello")
                heir.kill()
                relay.wait_status(lambda s: s["subscribers"]["live"] == 0, "it is gone")

    def test_k21_one_handler_at_a_time_over_all_clients(self):
        """workers: 1, and 0, which is read as 1: one Lua state for all, never two at once."""
        for workers in (0, 1):
            with self.subTest(workers=workers):
                relay = self.start(
                    workers=workers,
                    lua="""
                    local count, inside = 0, false
                    event_route["evapi:message-received"] = function(evapi)
                      if inside then error("two at once") end
                      inside = true
                      count = count + 1
                      evapi.relay(tostring(count))
                      inside = false
                    end
                    """,
                )
                self.assertEqual(relay.status()["hook"]["workers"], 1)
                if workers == 0:
                    relay.wait_log(" info daemon: workers: 0 is read as 1$")
                subscribers = relay.subscribers(8)
                relay.wait_handled()
                for subscriber in subscribers:
                    subscriber.send(b"1:x," * 50)
                subscribers[0].expect(*[b"%d" % n for n in range(1, 401)])

    @plain_only("the default has no certificates")
    def test_k22_the_default_address_and_a_taken_port(self):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(("127.0.0.1", 8448))
                taken.listen()
            except OSError:
                pass  # by somebody else: as good
            with self.assertRaises(StartFailed) as failed:
                self.start(bind_addr=None)
            self.assertEqual(failed.exception.code, 3)
            self.assertIn("127.0.0.1:8448", failed.exception.log)


class WithoutNetstring(KeepCase):
    def test_k23_one_read_is_one_message_and_relay_is_the_bare_data(self):
        relay = self.start(lua=ACT, netstring_format=False)
        speaker, other = relay.subscribers(2, raw=True)
        speaker.send(b"relay\t5:hello,")
        self.expect_bytes(speaker, b"5:hello,", b"relay true")
        self.expect_bytes(other, b"5:hello,")
        speaker.send(b"relay\t")
        self.expect_bytes(speaker, b"relay false")
        chance = random.Random(23)
        for size in (1, 100, 20_000):
            payload = chance.randbytes(size).replace(b"\t", b"?")
            speaker.send(b"reply\t" + payload)
            self.expect_bytes(speaker, payload, b"reply true")
        self.assertEqual(relay.status()["messages"]["received"], 5)
        self.expect_nothing(relay, other)


class Async(KeepCase):
    """The asker is a producer here, and its final answer stands for the resumed route."""

    ASK = b"ask $T(id_index) $T(id_label)"

    def setUp(self):
        self.relay = self.start(lua=ACT)
        self.one, self.two, self.three = self.relay.subscribers(3)
        self.clients = [self.one, self.two, self.three]
        self.producer = self.relay.producer()

    def ask(self, verb, *rest, by=None):
        """A request that is suspended; its numbers."""
        return (by or self.producer).suspend(verb, self.ASK, *rest)

    def do(self, subscriber, *words, wanted=True):
        subscriber.send(act(*words))
        subscriber.skip_to(b"%b %b" % (words[0].encode(), b"true" if wanted else b"false"))

    def resume(self, subscriber, request, data=b"data", wanted=True):
        self.do(subscriber, "resume", *request, data, wanted=wanted)

    def expect_resumed(self, request, data=b"data"):
        self.assertEqual(self.producer.next_answer(), [b"resumed", *request, data])

    def test_k24_index_and_label_are_in_the_event(self):
        request = self.ask("async_relay")
        for client in self.clients:
            client.expect(b"ask %b %b" % request)
        self.resume(self.one, request)
        self.expect_resumed(request)

    def test_k24_a_continue_from_any_client_resumes_it(self):
        self.do(self.two, "set_tag", b"tag")
        for client in self.clients:
            request = self.ask("async_unicast", "tag")
            self.two.expect(b"ask %b %b" % request)
            self.resume(client, request, b"resumed by a client")
            self.expect_resumed(request, b"resumed by a client")

    def test_k25_a_second_or_wrong_continue_fails_and_the_request_goes_on_waiting(self):
        request = index, label = self.ask("async_relay")
        other = self.ask("async_relay")
        for wrong in (
            (b"%d" % (int(index) + 7), label),
            (index, b"%d" % (int(label) ^ 1)),
            (index, other[1]),
            (b"4294967296", label),
            (index, b"99999999999999999999"),
            (b"-1", label),
            (b"x", b"y"),
            (b"", b""),
        ):
            with self.subTest(wrong):
                self.resume(self.one, wrong, wanted=False)
        self.resume(self.two, request)
        self.expect_resumed(request)
        for client in self.clients:
            self.resume(client, request, wanted=False)
        self.resume(self.three, other)
        self.expect_resumed(other)

    def test_k25_the_kemi_face_returns_1_and_minus_1(self):
        self.relay.reload(
            event_callback="on_event",
            lua="""
            function on_event(name)
              if name ~= "evapi:message-received" then return end
              local index, label = KSR.pv.gete("$evapi(msg)"):match("^(%S+) (%S+)$")
              for _ = 1, 2 do
                KSR.evapi.relay("" .. KSR.tmx.t_continue(index, label, "RESUMED"))
              end
            end
            """,
        )
        request = self.ask("async_relay")
        self.one.skip_to(b"ask %b %b" % request)
        self.one.send(wire.data(b"x y"))
        self.one.expect(b"-1", b"-1")
        self.one.send(wire.data(b"%b %b" % request))
        self.one.expect(b"1", b"-1")
        self.expect_resumed(request, b"RESUMED")

    def test_k26_not_continued_it_ends_when_its_time_is_over(self):
        request = self.ask("async_relay", 50)
        self.assertEqual(self.producer.next_answer(), [b"expired", *request])
        self.resume(self.one, request, wanted=False)

    @unittest.skipIf(SCALE < 20, "the long form only: it takes 30 s")
    def test_k26_the_time_is_30_s_by_default(self):
        asked = time.monotonic()
        request = self.ask("async_relay")
        self.assertEqual(self.producer.next_answer(timeout=35), [b"expired", *request])
        took = time.monotonic() - asked
        self.assertGreaterEqual(took, 30)
        self.assertLess(took, 30 + patience(1))

    def test_k26_nobody_to_ask_is_an_error_at_once(self):
        for items in (("async_multicast", "x", "tag"), ("async_unicast", "x", "tag")):
            answer = self.producer.request(*items)
            self.assertEqual(answer[:2], [b"error", b"no-subscriber"])
        for client in self.clients:
            client.close()
        self.relay.wait_status(lambda s: s["subscribers"]["live"] == 0, "all have left")
        answer = self.producer.request("async_relay", "x")
        self.assertEqual(answer[:2], [b"error", b"no-subscriber"])

    def test_k26_the_client_leaves_and_it_waits_until_its_time_is_over(self):
        self.do(self.three, "set_tag", b"tag")
        asked = [self.ask("async_unicast", "tag", 60), self.ask("async_unicast", "tag")]
        self.three.kill()
        self.assertEqual(self.producer.next_answer(), [b"expired", *asked[0]])
        self.resume(self.one, asked[1])
        self.expect_resumed(asked[1])

    def test_k27_async_unicast_asks_the_first_of_the_tag_only(self):
        for client in (self.three, self.two):
            self.do(client, "set_tag", b"tag")
        request = self.ask("async_unicast", "tag")
        self.two.expect(b"ask %b %b" % request)
        self.expect_nothing(self.relay, self.one, self.three)

    def test_k27_async_multicast_asks_all_and_the_first_continue_counts(self):
        for client in (self.three, self.two):
            self.do(client, "set_tag", b"tag")
        request = self.ask("async_multicast", "tag")
        for client in (self.two, self.three):
            client.expect(b"ask %b %b" % request)
        self.expect_nothing(self.relay, self.one)
        self.resume(self.three, request, b"first")
        self.resume(self.two, request, b"second", wanted=False)
        self.expect_resumed(request, b"first")
        self.producer.ping()

    def test_k27_100_at_a_time_continued_in_any_order(self):
        requests = [self.ask("async_relay") for _ in range(100)]
        self.assertEqual(len(set(requests)), 100)
        shuffled = random.Random(1).sample(requests, 100)
        for number, request in enumerate(shuffled):
            self.resume(self.clients[number % 3], request, b"%d" % number)
        for number, request in enumerate(shuffled):
            self.expect_resumed(request, b"%d" % number)
        self.producer.ping()


class Manual(KeepCase):
    """The examples of the manual, translated line by line."""

    def expect_line(self, relay, text):
        """A line of the script's log that is exactly this."""
        relay.wait_log(rf"^\S+Z info \w+: {text}$")

    def test_the_three_event_routes(self):
        relay = self.start(
            lua=r"""
            event_route["evapi:connection-new"] = function(evapi)
                xlog("new connection from " .. evapi.srcaddr .. ":" .. evapi.srcport .. "\n")
            end

            event_route["evapi:connection-closed"] = function(evapi)
                xlog("connection closed by " .. evapi.srcaddr .. ":" .. evapi.srcport .. "\n")
            end

            event_route["evapi:message-received"] = function(evapi)
                xlog("received [" .. evapi.msg .. "] from " .. evapi.srcaddr .. ":" ..
                    evapi.srcport .. "\n")
            end
            """
        )
        subscriber = relay.subscriber()
        host = rf"127\.0\.0\.1:{subscriber.sock.getsockname()[1]}"
        self.expect_line(relay, f"new connection from {host}")
        subscriber.send(b"5:hello,")
        self.expect_line(relay, rf"received \[hello\] from {host}")
        subscriber.close()
        self.expect_line(relay, f"connection closed by {host}")

    def test_the_close_example(self):
        relay = self.start(
            lua="""
            event_route["evapi:connection-new"] = function(evapi)
              if evapi.srcaddr ~= "127.0.0.1" then
                evapi.close()
                return
              end
            end
            """
        )
        welcome = relay.subscriber()
        stranger = relay.subscriber(source="127.0.0.2")
        stranger.expect_end("eof")
        self.assertEqual(stranger.taken, 0)
        relay.producer().relay(b"hello")
        welcome.expect(b"hello")
        closed = relay.status()["subscribers"]["closed"]
        self.assertEqual((closed["hook"], sum(closed.values())), (1, 1))

    def test_a_kemi_script_in_lua_runs_unchanged(self):
        """The same examples as KEMI writes them."""
        relay = self.start(
            event_callback="ksr_evapi_event",
            lua=r"""
            function ksr_evapi_event(evname)
              local who = KSR.pv.get("$evapi(srcaddr)") .. ":" .. KSR.pv.get("$evapi(srcport)")
              if evname == "evapi:connection-new" then
                KSR.info("new connection from " .. who .. "\n")
                if KSR.pv.get("$evapi(srcaddr)") ~= "127.0.0.1" then
                  KSR.evapi.close()
                  KSR.x.exit()
                end
                if not KSR.pv.is_null("$evapi(msg)") then
                  KSR.err("there is a message already\n")
                end
              elseif evname == "evapi:connection-closed" then
                KSR.info("connection closed by " .. who .. "\n")
              elseif evname == "evapi:message-received" then
                KSR.info("received [" .. KSR.pv.get("$evapi(msg)") .. "] from " .. who .. "\n")
                KSR.evapi.set_tag("tag " .. KSR.pv.get("$evapi(conidx)"))
                KSR.evapi.relay(KSR.pv.gete("$evapi(msg)"))
                KSR.evapi.relay_multicast("multicast", "tag 0")
                KSR.evapi.relay_unicast("unicast", "tag 0")
              end
              return 1
            end
            """,
        )
        subscriber = relay.subscriber()
        host = rf"127\.0\.0\.1:{subscriber.sock.getsockname()[1]}"
        self.expect_line(relay, f"new connection from {host}")
        stranger = relay.subscriber(source="127.0.0.2")
        stranger.expect_end("eof")
        self.expect_line(
            relay, rf"connection closed by 127\.0\.0\.2:{stranger.sock.getsockname()[1]}"
        )
        subscriber.send(b"5:hello,")
        subscriber.expect(b"hello", b"multicast", b"unicast")
        self.expect_line(relay, rf"received \[hello\] from {host}")
        subscriber.close()
        self.expect_line(relay, f"connection closed by {host}")
        self.assertNotIn(" error ", relay.log)
        self.assertEqual(sum(relay.status()["hook"]["failed"].values()), 0)


if __name__ == "__main__":
    unittest.main()
