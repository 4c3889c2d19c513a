"""The part of the growth benchmark that measures one hop of a tree: a relay whose only producer is
a subscriber of another, `evrelay sub --netstring | evrelay pub --netstring`.
"""

from parts import alternate, latencies, median, most_disturbed
from servers import Child, Evrelay, Server

SUBSCRIBERS = 10
RATE = 1000  # events a second, where latency is measured


class Tree(Server):
    """Events go in at the root, and out to the subscribers of the leaf. `child` is the leaf."""

    def __init__(self, binary, folder):
        self._binary = binary
        self._root = Evrelay(binary, self._folder(folder, "root"))
        self._leaf = Evrelay(binary, self._folder(folder, "leaf"))
        self.beside = []  # processes that belong to the run

    @staticmethod
    def _folder(folder, name):
        (folder / name).mkdir(exist_ok=True)
        return folder / name

    def start(self):
        self._root.start()
        self._leaf.start()
        self._hop = Child(
            ["sh", "-c", '"$0" sub --netstring "$1" | "$0" pub --netstring --socket "$2"',
             self._binary, f"127.0.0.1:{self._root.port}", self._leaf.producer], "hop", group=True)
        self.beside += [self._root.child, self._hop]
        self.producer, self.port, self.child = (
            self._root.producer, self._leaf.port, self._leaf.child)

    def await_subscribers(self, count):
        self._root.await_subscribers(1)
        self._leaf.await_subscribers(count)

    def facts(self):
        return {"hop_cpu_s": self._hop.cpu_seconds()}

    def stop(self):
        self._hop.release()
        self._root.stop()
        self._leaf.stop()

    def release(self):
        for child in (self._root.child, *self.beside, self._leaf.child):
            if child is not None:
                child.release()


def tree(settings):
    """The same subscribers at the root itself, and behind one hop."""
    cells = []
    for size in (64, 1024):
        def direct(size=size, **options):
            return settings.run(settings.evrelay(SUBSCRIBERS), SUBSCRIBERS, size=size, **options)

        def hop(size=size, **options):
            server = Tree(settings.binary, settings.folder)
            return settings.run(server, SUBSCRIBERS, size=size, beside=server.beside, **options)

        results = alternate(settings.runs, {
            "direct": direct, "hop": hop,
            "direct_latency": lambda direct=direct: direct(rate=RATE),
            "hop_latency": lambda hop=hop: hop(rate=RATE)})
        for result in results["hop"]:
            result["hop_cpu_ns"] = (
                result["hop_cpu_s"] / result["total_received"] * SUBSCRIBERS * 1e9)
        cells.append({
            "size": size, "rate": median(results["hop"], "rate") / SUBSCRIBERS,
            "direct_rate": median(results["direct"], "rate") / SUBSCRIBERS,
            "hop_cpu_ns": median(results["hop"], "hop_cpu_ns"),
            "others_cpu_share": most_disturbed(results), "runs": results,
        } | latencies({"direct": results["direct_latency"], "hop": results["hop_latency"]}))
    return cells
