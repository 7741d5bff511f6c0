"""Tables as Markdown, HTML and CSV. A table is a header and rows of texts."""

import csv
import html


def number(value, digits=3):
    """Three digits or more, "" for none: 0.0123, 7.31, 34.1, 5120."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def markdown(header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "".join("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(line, widths)) + " |\n" for line in lines)


def as_html(header, rows, marks=()):
    """`marks`: a class for each row, or "" (for rows of failed points)."""
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    out = [f"<table><thead><tr>{head}</tr></thead><tbody>"]
    for i, row in enumerate(rows):
        mark = f' class="{marks[i]}"' if i < len(marks) and marks[i] else ""
        out.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>")
    return "\n".join(out) + "</tbody></table>\n"


def write_csv(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
