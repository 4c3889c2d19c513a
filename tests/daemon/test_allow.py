"""producer.allow: who may do what, cell by cell. Needs root, to connect as other users."""

import unittest
from collections import Counter

import wire
from relay import IS_ROOT, RelayCase, connect_as, pump
from scripts import ACT, act

# Users of the table: uid, primary gid, supplementary gids. They need not exist.
USERS = {
    "root": (0, 0, ()),
    "alice": (2001, 3001, ()),
    "bob": (2002, 3002, (3009,)),
    "carol": (2003, 3009, ()),
}

# For each verb the arguments of a request that reaches the one subscriber, and its answer.
VERBS = {
    "relay": ((), b"ok"),
    "multicast": (("tag",), b"ok"),
    "unicast": (("tag",), b"ok"),
    "async_relay": ((), b"suspended"),
    "async_multicast": (("tag",), b"suspended"),
    "async_unicast": (("tag",), b"suspended"),
}
ALL = set(VERBS)

# Rules, and what each user may do under them. Everybody may connect and ping; who is not named may
# do no more.
TABLE = [
    ([], dict.fromkeys(USERS, ALL)),
    ([{"uid": 0}], {"root": ALL}),
    ([{"uid": "root"}], {"root": ALL}),
    ([{"uid": 2001}], {"alice": ALL}),
    *[([{"uid": 2001, "verbs": [verb]}], {"alice": {verb}}) for verb in VERBS],
    *[
        ([{"gid": 3009, "verbs": sorted(rest)}], {"bob": rest, "carol": rest})
        for rest in (ALL - {verb} for verb in VERBS)
    ],
    ([{"uid": 2001, "verbs": ["relay", "ping"]}], {"alice": {"relay"}}),
    ([{"uid": 2001, "verbs": ["ping"]}], {}),
    ([{"gid": 3002}], {"bob": ALL}),
    ([{"gid": 3009}], {"bob": ALL, "carol": ALL}),
    ([{"uid": 2002, "gid": 3009}], {"bob": ALL}),
    ([{"uid": 2001, "gid": 3009}], {}),
    ([{"uid": 2001}, {"uid": 2003}], {"alice": ALL, "carol": ALL}),
    (
        [{"uid": 2001, "verbs": ["ping", "unicast"]}, {"gid": 3001, "verbs": ["relay"]}],
        {"alice": {"relay", "unicast"}},
    ),
    (
        [{"gid": 3009, "verbs": ["async_relay"]}, {"uid": 2003}],
        {"bob": {"async_relay"}, "carol": ALL},
    ),
    ([{"uid": 9999}], {}),
]


@unittest.skipUnless(IS_ROOT, "needs root to connect as other users")
class Allow(RelayCase):
    def start_with(self, rules):
        return self.start(producer={"mode": "0666", "allow": rules})

    def connect(self, relay, user):
        return relay.adopt(connect_as(relay.producer_path, *USERS[user]))

    def test_bar_19_every_cell_of_the_table(self):
        """RELIABILITY bar 19: uid × rule × verb; denied events never reach anyone."""
        relay = self.start(lua=ACT, producer={"mode": "0666"})
        subscriber = relay.subscriber()
        subscriber.send(act("set_tag", b"tag"))
        subscriber.expect(b"set_tag true")
        answered, forbidden, frames, denied = Counter(), 0, 0, 0
        for rules, allowed in TABLE:
            relay.reload(producer={"allow": rules})
            for user in USERS:
                producer = self.connect(relay, user)
                self.assertEqual(producer.request("ping"), [b"ok"])
                for verb, (tag, wanted) in VERBS.items():
                    with self.subTest(rules=rules, user=user, verb=verb):
                        event = f"{verb} of {user}".encode()
                        answer = producer.request(verb, event, *tag)
                        if verb in allowed.get(user, ()):
                            self.assertEqual(answer[0], wanted)
                            subscriber.expect(event)
                            answered[verb] += 1
                        else:
                            self.assertEqual(answer[:2], [b"error", b"forbidden"])
                            forbidden += 1
                producer.close()
                producer = self.connect(relay, user)
                with self.subTest(rules=rules, user=user, verb="a data frame"):
                    event = b"frame of " + user.encode()
                    if "relay" in allowed.get(user, ()):
                        producer.relay(event)
                        producer.ping()
                        subscriber.expect(event)
                        frames += 1
                    else:
                        # A keepalive is no event. It stayed connected after a denied request, and
                        # does not after a denied event.
                        producer.send(b"0:,")
                        producer.ping()
                        producer.send(wire.data(event))
                        producer.expect_end("eof")
                        self.assertEqual(producer.answers[0][:2], [b"error", b"forbidden"])
                        denied += 1
                producer.close()
        relay.turn()
        self.assertEqual(subscriber.events, [])
        status = relay.wait_status(lambda s: s["producers"]["connected"] == 0, "all have left")
        self.assertEqual(status["producers"]["closed"]["forbidden"], denied)
        self.assertEqual(status["events"]["denied"], denied)
        self.assertEqual(status["requests"]["errors"]["forbidden"], forbidden + denied)
        accepted = status["requests"]["accepted"]
        self.assertEqual({verb: accepted[verb] for verb in VERBS}, dict(answered))
        relayed = frames + answered["relay"] + answered["async_relay"]
        self.assertEqual(status["events"]["relayed"], relayed)
        suspended = sum(count for verb, count in answered.items() if verb.startswith("async"))
        self.assertEqual(status["async"]["suspended"], suspended)

    def test_what_one_may_not_do_is_refused_whatever_it_says(self):
        """Nothing is learned by asking: neither who is there, nor whether there is room."""
        relay = self.start_with([{"uid": 2001, "verbs": ["relay"]}])
        alice = self.connect(relay, "alice")
        for verb in ("multicast", "unicast", "async_multicast", "async_unicast"):
            self.assertEqual(alice.request(verb, "x", "nobody")[:2], [b"error", b"forbidden"])
        self.assertEqual(alice.request("async_relay", "x")[:2], [b"error", b"forbidden"])
        self.assertEqual(alice.request("relay", "x"), [b"ok", b"0"])

    def test_a_reload_changes_what_those_may_do_that_are_connected(self):
        relay = self.start(lua=ACT, producer={"mode": "0666"})
        subscriber = relay.subscriber()
        alice = self.connect(relay, "alice")
        request = alice.suspend("async_relay", "x")
        relay.reload(producer={"allow": [{"uid": 0}]})
        for verb in ("relay", "async_relay"):
            self.assertEqual(alice.request(verb, "never")[:2], [b"error", b"forbidden"])
        # What waited before still gets its answer.
        subscriber.send(act("resume", *request, b"data"))
        subscriber.expect(b"x", b"resume true")
        self.assertEqual(alice.next_answer(), [b"resumed", *request, b"data"])
        relay.reload(producer={"allow": []})
        self.assertEqual(alice.request("relay", "again"), [b"ok", b"1"])
        subscriber.expect(b"again")

    def test_denied_events_in_a_crowd_of_allowed_ones(self):
        relay = self.start_with([{"uid": 2001}])
        subscriber = relay.subscriber()
        alice, others = self.connect(relay, "alice"), []
        for number in range(30):
            intruder = self.connect(relay, ("root", "bob", "carol")[number % 3])
            intruder.send(wire.data(b"denied") * 3)
            others.append(intruder)
            alice.relay(b"allowed %d" % number)
        pump(others, lambda: all(other.ended for other in others))
        subscriber.expect(*[b"allowed %d" % number for number in range(30)])
        relay.turn()
        self.assertEqual(relay.status()["events"]["relayed"], 30)
        self.assertEqual(subscriber.events, [])

    def test_a_denied_user_is_named_in_the_log(self):
        relay = self.start_with([{"uid": 0}])
        bob = self.connect(relay, "bob")
        bob.send(b"5:hello,")
        bob.expect_end("eof")
        bob.close()
        relay.wait_log(r"^\S+Z warn \w+: .*2002")

    def test_the_socket_mode_keeps_others_out(self):
        relay = self.start(producer={"mode": "0600"})
        with self.assertRaises(PermissionError):
            self.connect(relay, "alice")


if __name__ == "__main__":
    unittest.main()
