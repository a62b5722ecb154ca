"""Tables and sizes as `hv` prints them, without a library."""


def sized(count: "int | None") -> str:
    """Bytes for people."""
    if count is None:
        return "-"
    value, units = float(count), ["B", "K", "M", "G", "T"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.4g}{units[0]}"


def table(head: tuple[str, ...], rows: "list[tuple[str, ...]]") -> None:
    """Columns as wide as they must be."""
    import unicodedata

    def width(text: str) -> int:
        return sum(
            0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
            for char in text
        )

    cells = [head, *rows]
    plain = all(text.isascii() for row in rows for text in row)
    measure = len if plain else width
    widths = [max(map(measure, column)) for column in zip(*cells, strict=True)]
    out = []
    for row in cells:
        line = [text + " " * (wide - measure(text)) for text, wide in zip(row, widths, strict=True)]
        out.append("  ".join(line).rstrip())
    print("\n".join(out))
