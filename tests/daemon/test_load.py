"""Heavy load, by the program of the benchmark (tests/bench/bench_load.cc), which checks what each
subscriber gets to the byte: one that stalls harms nobody, and memory is bounded.

Environment: EVRELAY_BENCH_LOAD (path of that program).
"""

import json
import os
import re
import resource
import select
import subprocess
import unittest

from relay import KIB, MIB, SANITIZED, SCALE, RelayCase, patience, plain_only

LOAD = os.environ.get("EVRELAY_BENCH_LOAD")


class Load(RelayCase):
    def setUp(self):
        if LOAD is None:
            self.skipTest("EVRELAY_BENCH_LOAD names no program")

    def load(self, server, *options):
        """Runs the load; returns what it reports and the relay's status before it ends."""
        process = subprocess.Popen(
            [LOAD, "--port", str(server.port), "--producer", server.producer_path, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self.assertEqual(self.line(process), b"connected\n")
            process.stdin.write(b"\n")
            process.stdin.flush()
            report = json.loads(self.line(process))
            return report, server.status()
        finally:
            process.stdin.close()
            process.stdout.close()
            self.assertEqual(process.wait(), 0)

    def line(self, process):
        ready, _, _ = select.select([process.stdout], [], [], patience(120))
        self.assertTrue(ready, "the load is silent")
        line = process.stdout.readline()
        self.assertTrue(line, "the load has failed")
        return line

    @plain_only("the load speaks no TLS")
    def test_bar_1_one_that_stalls_delays_nobody(self):
        """RELIABILITY bar 1: 1 of 50 stops reading; 5,000 events/s × 1 KiB: p99 of the other 49
        within 20 % of the run without it; 0 loss on the 49."""
        slow = SANITIZED or SCALE <= 1
        rate, seconds, runs = (500, 1, 1) if slow else (5000, 8, 3)
        options = ["--size", str(KIB), "--rate", str(rate), "--seconds", str(seconds)]
        p99 = {0: [], 1: []}
        for _ in range(runs):
            for stalled in p99:
                # It lags from the first second on, and stays.
                server = self.start(send_buffer="64KiB", slow_subscriber={"policy": "skip"})
                count = ["--subscribers", str(49 + stalled), "--stalled", str(stalled)]
                report, status = self.load(server, *options, *count)
                events = status["events"]["relayed"]
                # Each of the 49 has got each event: the load would have failed otherwise.
                self.assertEqual(report["total_received"], events * 49)
                self.assertEqual(status["subscribers"]["live"], 49 + stalled)
                self.assertEqual(status["subscribers"]["blocked"], stalled)
                self.assertLessEqual(
                    sum(status["deliveries"]["dropped"].values()), stalled * events
                )
                server.check_balance(status)
                p99[stalled].append(report["latency_us"]["p99"])
                server.stop()
        print(f"# p99 in µs: {p99[0]} without, {p99[1]} with one that stalls")
        if not slow:
            # The best of some runs, as the machine has other work too.
            self.assertLess(min(p99[1]), 1.2 * min(p99[0]) + 1000)

    @plain_only("the load speaks no TLS")
    def test_bar_11_memory_is_capped(self):
        """RELIABILITY bar 11: 1,000 subscribers, half of them stalled, 1 KiB events as fast as the
        others read: payload held once, RSS < caps × 1.3 + 30 MiB."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard < 2000:
            self.skipTest(f"needs a hard limit of 2000 open files, not {hard}")
        subscribers, cap = (100, 2 * MIB) if SCALE <= 1 else (1000, 16 * MIB)
        seconds = 2 if SCALE <= 1 else 30
        for policy in ("skip", "disconnect"):
            with self.subTest(policy):
                server = self.start(
                    max_event="64KiB",
                    send_buffer="16KiB",
                    slow_subscriber={"max_lag": cap, "policy": policy},
                )
                report, status = self.load(
                    server,
                    *("--subscribers", str(subscribers), "--stalled", str(subscribers // 2)),
                    *("--size", str(KIB), "--window", str(cap // 4), "--seconds", str(seconds)),
                )
                peak = self.peak(server)
                print(
                    f"# {policy}: {status['events']['relayed']} events, "
                    f"{report['rate']:.0f} deliveries/s, peak {peak / MIB:.1f} MiB"
                )
                self.assertGreater(status["events"]["bytes"], cap, "the load was too small")
                lost = "skipped" if policy == "skip" else "slow-subscriber"
                self.assertGreater(status["deliveries"]["dropped"][lost], 0)
                self.assertLessEqual(status["log"]["bytes"], cap + MIB)
                if not SANITIZED:
                    self.assertLess(peak, 1.3 * cap + 30 * MIB)
                server.check_balance(status)
                server.stop()

    @staticmethod
    def peak(server):
        with open(f"/proc/{server.pid}/status", encoding="ascii") as file:
            return int(re.search(r"^VmHWM:\s+(\d+) kB", file.read(), re.MULTILINE)[1]) * KIB


if __name__ == "__main__":
    unittest.main()
