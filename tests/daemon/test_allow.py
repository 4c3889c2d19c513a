"""producer.allow: who may do what, cell by cell. Needs root, to connect as other users."""

import unittest

import wire
from relay import IS_ROOT, RelayCase, connect_as, pump

# Users of the table: uid, primary gid, supplementary gids. They need not exist.
USERS = {
    "root": (0, 0, ()),
    "alice": (2001, 3001, ()),
    "bob": (2002, 3002, (3009,)),
    "carol": (2003, 3009, ()),
}

# Rules, and who may relay under them. Everybody else may connect and ping, and no more.
TABLE = [
    ([], {"root", "alice", "bob", "carol"}),
    ([{"uid": 0}], {"root"}),
    ([{"uid": "root"}], {"root"}),
    ([{"uid": 2001}], {"alice"}),
    ([{"uid": 2001, "verbs": ["relay"]}], {"alice"}),
    ([{"uid": 2001, "verbs": ["relay", "ping"]}], {"alice"}),
    ([{"uid": 2001, "verbs": ["ping"]}], set()),
    ([{"gid": 3002}], {"bob"}),
    ([{"gid": 3009}], {"bob", "carol"}),
    ([{"gid": 3009, "verbs": ["relay"]}], {"bob", "carol"}),
    ([{"uid": 2002, "gid": 3009}], {"bob"}),
    ([{"uid": 2001, "gid": 3009}], set()),
    ([{"uid": 2001}, {"uid": 2003}], {"alice", "carol"}),
    ([{"uid": 2001, "verbs": ["ping"]}, {"gid": 3001, "verbs": ["relay"]}], {"alice"}),
    ([{"uid": 9999}], set()),
]


@unittest.skipUnless(IS_ROOT, "needs root to connect as other users")
class Allow(RelayCase):
    def start_with(self, rules):
        return self.start(producer={"mode": "0666", "allow": rules})

    def connect(self, relay, user):
        return relay.adopt(connect_as(relay.producer_path, *USERS[user]))

    def test_bar_19_every_cell_of_the_table(self):
        """RELIABILITY bar 19: uid × rule × verb; denied events never reach anyone."""
        for rules, allowed in TABLE:
            relay = self.start_with(rules)
            subscriber = relay.subscriber()
            denied = 0
            for user in USERS:
                with self.subTest(rules=rules, user=user):
                    event = user.encode()
                    producer = self.connect(relay, user)
                    self.assertEqual(producer.request("ping"), [b"ok"])
                    answer = producer.request("relay", b"request of " + event)
                    if user in allowed:
                        self.assertEqual(answer, [b"ok", b"1"])
                        producer.relay(b"frame of " + event)
                        producer.ping()
                        subscriber.expect(b"request of " + event, b"frame of " + event)
                    else:
                        self.assertEqual(answer[:2], [b"error", b"forbidden"])
                        # It stays connected after a denied request, not after a denied event.
                        self.assertEqual(producer.request("ping"), [b"ok"])
                        producer.send(b"0:,")
                        producer.ping()
                        producer.send(wire.data(b"frame of " + event))
                        producer.expect_end("eof")
                        self.assertEqual(producer.answers[0][:2], [b"error", b"forbidden"])
                        producer.close()
                        denied += 1
            relay.turn()
            status = relay.wait_status(
                lambda s, n=denied: s["producers"]["closed"]["forbidden"] == n, "closed"
            )
            self.assertEqual(status["events"]["denied"], denied)
            self.assertEqual(status["events"]["relayed"], 2 * len(allowed))
            self.assertEqual(status["requests"]["errors"]["forbidden"], 2 * denied)
            relay.stop()

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
