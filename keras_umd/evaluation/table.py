"""Results in rows and columns."""

from keras_umd.evaluation.provenance import Result, best_of
from keras_umd.utils.atomic import write_json


class Table(list):
    """A list of rows, dictionaries from columns to values, some of which are `Result`s.

    `print` shows it as Markdown.
    """

    @property
    def columns(self):
        return list(dict.fromkeys(name for row in self for name in row))

    def best(self, column, smallest=False):
        """The row whose `Result` in this column is the best.

        Args:
            column: String.
            smallest: Bool. Whether less is better, as of distances.

        Raises:
            ValueError: if results in it can't be compared.
        """
        rows = [row for row in self if column in row]
        if not rows:
            raise ValueError(f"The table has the columns {self.columns}. Received: column={column!r}")
        return rows[best_of([row[column] for row in rows], smallest)]

    def cards(self):
        """All cards, as a list of dictionaries."""
        return [value.card for row in self for value in row.values() if isinstance(value, Result)]

    def save(self, path):
        """Write the rows as JSON, with a card for each result."""
        write_json(path, [{k: v.card if isinstance(v, Result) else v for k, v in row.items()} for row in self])

    def __str__(self):
        columns = self.columns
        cells = [columns, ["---"] * len(columns)]
        cells += [["" if row.get(name) is None else str(row[name]) for name in columns] for row in self]
        widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
        cells[1] = ["-" * width for width in widths]
        return "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in cells
        )
