"""The parts of the growth benchmark that ask what one costs another: the latency of a quiet source
of 64 B events beside a noisy one, or beside thousands who are sent nothing.
"""

from parts import alternate, cpu_per_million, latencies, median, most_disturbed
from servers import Load, measure

RATE = 100         # quiet events a second
BUSY_RATE = 10000  # events a second to the ten that are busy
PACED = 100000     # events a second of a firehose that does not go as fast as it can

# The ten that connect first are busy.
TAGGING_SCRIPT = """
event_route["evapi:connection-new"] = function(evapi)
  if evapi.conidx < 10 then evapi.set_tag("busy") end
end
"""
# The first connection's messages are relayed. Those of others are heard, which costs the same.
MESSAGE_SCRIPT = """
event_route["evapi:message-received"] = function(evapi)
  if evapi.conidx == 0 then evapi.relay(evapi.msg) end
end
"""


class FairLoad(Load):
    """bench-fair."""

    program = "bench-fair"


def run(settings, server, subscribers, **options):
    with server:
        with FairLoad(settings.programs, server, subscribers=subscribers,
                      seconds=settings.seconds * 1.5, warmup=settings.warmup(1),
                      **options) as load:
            server.await_subscribers(subscribers)
            result = measure(server, load)
            load.end()
        server.facts()
    return result


def rows(settings, variants):
    """One row for each of {name: function}: what the quiet source saw."""
    results = alternate(settings.runs, variants)
    out = []
    for name, runs in results.items():
        row = {"beside": name, "noise_rate": median(runs, "noise_rate"),
               "cpu_ns": cpu_per_million(runs) * 1e3,
               "others_cpu_share": most_disturbed({name: runs}), "runs": runs}
        out.append(row | latencies({"event": runs}) | answers(runs))
    return out


def answers(runs):
    """How long a request waits for its answer: until it is taken, whatever is queued before it."""
    if "answer_us" not in runs[0]:
        return {}
    return latencies({"answer": [{"latency_us": run["answer_us"]} for run in runs]})


def producers(settings):
    """A quiet producer beside one that sends 1 KiB as fast as it is taken, policy block."""
    def beside(max_lag="8MiB", **options):
        server = settings.evrelay(10, slow_subscriber=f"{{policy: block, max_lag: {max_lag}}}")
        return run(settings, server, 10, rate=RATE, **options)

    def firehose(max_lag):
        return lambda: beside(max_lag, noise="events")

    return rows(settings, {
        "nobody": beside,
        f"{PACED:,} events/s": lambda: beside(noise="events", noise_rate=PACED),
        "a firehose, max_lag 8 MiB": firehose("8MiB"),
        "a firehose, max_lag 1 MiB": firehose("1MiB"),
        "a firehose, max_lag 256 KiB": firehose("256KiB")})


def idle(settings):
    """Ten busy members of a tag, with and without thousands who are sent nothing."""
    def busy(others=0):
        server = settings.evrelay(10 + others, script=TAGGING_SCRIPT)
        return run(settings, server, 10 + others, listeners=10, quiet="multicast", rate=BUSY_RATE)

    return rows(settings, {
        "nobody": busy, f"{settings.idle:,} idle": lambda: busy(settings.idle)})


def talkers(settings):
    """Messages of a quiet subscriber, which the hook relays, beside one that never stops talking.

    With one worker both have the same; with two, each has its own.
    """
    def beside(workers=1, **options):
        server = settings.evrelay(2, script=MESSAGE_SCRIPT, workers=workers)
        return run(settings, server, 2, listeners=2, quiet="message", rate=RATE, **options)

    return rows(settings, {
        "nobody": beside,
        "a talker, same worker": lambda: beside(noise="messages"),
        "a talker, another worker": lambda: beside(2, noise="messages")})


def fairness(settings):
    return {"producers": producers(settings), "idle": idle(settings), "talkers": talkers(settings)}
