"""The results of the growth benchmark as Markdown tables and as plots."""

import re
import subprocess

from report import rate_name, size_name


def markdown(cells, columns):
    """A table of `cells`; columns are {header: function of a cell}. The first holds text, the others
    figures. Padded, so that it can be read as it is."""
    rows = [list(columns)]
    for cell in cells:
        first, *others = [value(cell) for value in columns.values()]
        rows.append([first + (" *" if is_disturbed(cell) else ""), *others])
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    lines = []
    for row in rows:
        padded = [row[0].ljust(widths[0])]
        padded += [text.rjust(width) for text, width in zip(row[1:], widths[1:])]
        lines.append("| " + " | ".join(padded) + " |")
    rule = ["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]]
    lines.insert(1, "|" + "|".join(rule) + "|")
    if any(map(is_disturbed, cells)):
        lines += ["", "\\* Others used the machine."]
    return "\n".join(lines)


def is_disturbed(cell):
    return cell.get("others_cpu_share", 0) > 0.1


def time_name(microseconds):
    if microseconds >= 1e6:
        return f"{microseconds / 1e6:.2f} s"
    return f"{microseconds / 1e3:.1f} ms" if microseconds >= 1e4 else f"{microseconds:.0f} µs"


def cpu_name(nanoseconds):
    if nanoseconds >= 1000:
        return f"{nanoseconds / 1000:.2f} µs"
    return f"{nanoseconds:.0f} ns" if nanoseconds >= 100 else f"{nanoseconds:.1f} ns"


def subscribers(cell):
    return f"{cell['subscribers']:,}"


def time_of(key):
    return lambda cell: time_name(cell[key])


def cpu_of(key):
    return lambda cell: cpu_name(cell[key])


def rate_of(key):
    return lambda cell: rate_name(cell[key]) if cell[key] else "-"


def delivery_table(cells):
    return markdown(cells, {
        "event": lambda cell: size_name(cell["size"]),
        "subscribers": subscribers,
        "deliveries/s": rate_of("rate"),
        "bytes/s": lambda cell: f"{cell['rate'] * cell['size'] / 1e9:.1f} GB",
        "CPU of one": cpu_of("cpu_ns"),
        "beside": lambda cell: cell["rival"],
        "its rate": rate_of("rival_rate"),
        "ratio": lambda cell: f"{cell['ratio']:.2f}",
        "its CPU": cpu_of("rival_cpu_ns"),
        "growth": lambda cell: f"{cell['growth_bytes'] / 2**20:.1f} MiB",
    })


def single_table(cells):
    return markdown(cells, {
        "event": lambda cell: size_name(cell["size"]),
        "subscribers": subscribers,
        "events/s": lambda cell: f"{cell['rate']:,.0f}",
        "CPU of a delivery": cpu_of("cpu_ns"),
        "p50": time_of("evrelay_p50_us"),
        "p99": time_of("evrelay_p99_us"),
        "bare relay: CPU": cpu_of("bare_cpu_ns"),
        "its p50": time_of("bare_p50_us"),
        "its p99": time_of("bare_p99_us"),
    })


def crowd_table(cells):
    return markdown(cells, {
        "kind": lambda cell: cell["kind"],
        "subscribers": subscribers,
        "all connected": lambda cell: time_name(cell["connected"] * 1e6),
        "all admitted": lambda cell: time_name(cell["admitted"] * 1e6),
        "a second": rate_of("rate"),
        "CPU each": lambda cell: f"{cell['cpu_us_each']:.1f} µs",
        "RSS each": lambda cell: f"{cell['rss_each']:,.0f} B",
        "kernel each": lambda cell: ("-" if cell["kernel_each"] is None
                                     else f"{cell['kernel_each']:,.0f} B"),
    })


def tls_table(cells):
    return markdown(cells, {
        "event": lambda cell: size_name(cell["size"]),
        "subscribers": subscribers,
        "deliveries/s": rate_of("rate"),
        "plain": rate_of("plain_rate"),
        "ratio": lambda cell: f"{cell['ratio']:.2f}",
        "CPU of one": cpu_of("cpu_ns"),
        "plain one": cpu_of("plain_cpu_ns"),
        "more a KiB": lambda cell: cpu_name(
            (cell["cpu_ns"] - cell["plain_cpu_ns"]) / cell["size"] * 1024),
    })


def fairness_tables(part):
    beside = {"beside": lambda row: row["beside"]}
    noise = {"which sends": rate_of("noise_rate")}
    delivered = {"p50": time_of("event_p50_us"), "p99": time_of("event_p99_us")}
    answered = {"answered p50": time_of("answer_p50_us"), "answered p99": time_of("answer_p99_us")}
    return {
        "fair-producers": markdown(part["producers"], beside | noise | delivered | answered),
        "fair-idle": markdown(part["idle"],
                              beside | delivered | {"CPU of a delivery": cpu_of("cpu_ns")}),
        "fair-talkers": markdown(part["talkers"], beside | noise | delivered),
    }


def tree_table(cells):
    return markdown(cells, {
        "event": lambda cell: size_name(cell["size"]),
        "events/s direct": rate_of("direct_rate"),
        "behind a hop": rate_of("rate"),
        "hop's CPU of an event": cpu_of("hop_cpu_ns"),
        "p50 direct": time_of("direct_p50_us"),
        "p99 direct": time_of("direct_p99_us"),
        "p50 behind": time_of("hop_p50_us"),
        "p99 behind": time_of("hop_p99_us"),
    })


def tables(results):
    """{name: text}, of the parts that were run."""
    out = {"machine": f"{results['machine']}; medians of {results['runs']} runs of "
                      f"{results['seconds']:g} s, {results['time']}"}
    for name, table in (("delivery", delivery_table), ("single", single_table),
                        ("crowd", crowd_table), ("tls", tls_table), ("tree", tree_table)):
        if name in results:
            out[name] = table(results[name])
    if "fairness" in results:
        out |= fairness_tables(results["fairness"])
    return out


def replace_tables(path, new):
    """Puts each table between its lines `<!-- NAME -->` and `<!-- end -->`."""
    text = path.read_text()
    for name, table in new.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, found = re.subn(pattern, lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}",
                              text, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"{path}: has {found} places for the table '{name}'")
    path.write_text(text)


PLOT = """
set title "evrelay: server's CPU for one delivery"
set logscale xy
set xrange [0.8:25000]
set xlabel "subscribers"
set ylabel "ns"
set grid
set key outside right
set style data linespoints
"""


def plot(results, folder):
    """Writes growth.svg and .png. Without gnuplot: says so."""
    lines = []
    for part, what in (("single", "one by one"), ("delivery", "as fast as it goes")):
        for size in (1024, 64):
            points = [(cell["subscribers"], cell["cpu_ns"]) for cell in results.get(part, [])
                      if cell["size"] == size]
            if points:
                lines.append((f"{size_name(size)}, {what}", points))
    if not lines:
        return
    data = "".join(
        f"$data{number} <<END\n" + "".join(f"{x} {y:.6g}\n" for x, y in points) + "END\n"
        for number, (_, points) in enumerate(lines))
    curves = ", ".join(f'$data{number} title "{title}" pointtype 7'
                       for number, (title, _) in enumerate(lines))
    for ending, terminal in (("svg", "svg size 1000,560 background 'white'"),
                             ("png", "pngcairo size 1000,560")):
        script = (f"set encoding utf8\nset terminal {terminal}\n"
                  f"set output '{folder}/growth.{ending}'\n{data}{PLOT}plot {curves}\n")
        try:
            subprocess.run(["gnuplot"], input=script, text=True, check=True)
        except FileNotFoundError:
            print("no plot: gnuplot is not installed")
            return
