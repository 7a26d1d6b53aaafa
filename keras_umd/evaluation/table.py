"""Tables of results, as text, as HTML and as files."""

import html

from keras_umd.evaluation.provenance import Result, best_of
from keras_umd.utils.atomic import write_json


class Table(list):
    """A list of rows, dictionaries from columns to values, some of which are `Result`s.

    It is shown as Markdown by `print` and in a console, and as an HTML table in a notebook.
    """

    @property
    def columns(self):
        return list(dict.fromkeys(name for row in self for name in row))

    def best(self, column, smallest=False):
        """Find the row with the best `Result` in a column.

        Args:
            column: String.
            smallest: Bool. Whether less is better, as for distances.

        Returns:
            `Row`.

        Raises:
            ValueError: if results in it can't be compared.
        """
        rows = [row for row in self if column in row]
        if not rows:
            raise ValueError(f"The table has the columns {self.columns}. Received: column={column!r}")
        return Row(rows[best_of([row[column] for row in rows], smallest)])

    def cards(self):
        """All cards, as a list of dictionaries."""
        return [value.card for row in self for value in row.values() if isinstance(value, Result)]

    def save(self, path):
        """Write the rows as JSON, with a card for each result."""
        write_json(path, [{k: v.card if isinstance(v, Result) else v for k, v in row.items()} for row in self])

    def __str__(self):
        lines = self._cells()
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        lines.insert(1, ["-" * width for width in widths])
        return "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        )

    __repr__ = __str__

    def _repr_html_(self):
        header, *lines = (map(html.escape, line) for line in self._cells())
        rows = [f"<tr><th>{'</th><th>'.join(header)}</th></tr>"]
        rows += [f"<tr><td>{'</td><td>'.join(line)}</td></tr>" for line in lines]
        return f"<table>{''.join(rows)}</table>"

    def _cells(self):
        """The header and the rows, as lists of strings."""
        columns = self.columns
        return [columns, *(["" if row.get(name) is None else str(row[name]) for name in columns] for row in self)]


class Row(dict):
    """A row of a table, shown as a `Table` of this row alone."""

    def __repr__(self):
        return repr(Table([self]))

    def _repr_html_(self):
        return Table([self])._repr_html_()
