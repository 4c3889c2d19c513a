"""Results as Markdown tables, and where they stand in a page."""

import re

from report import rate_name


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
