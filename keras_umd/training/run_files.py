"""Files that a monitored run leaves: its evaluations as lines of JSON, and events for TensorBoard."""

import json
import os
import pathlib
import time

from keras_umd.utils.atomic import write_whole


def read_evaluations(path):
    """The lines of `evaluations.jsonl`, dictionaries; none where there is no file."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    # A kill may have cut off the last line.
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class Record:
    """The lines of `evaluations.jsonl` up to a step; later ones, of a run that was stopped, are removed.

    Args:
        directory: String, or `None` for no file.
        step: Integer, at which the training begins or resumes.
    """

    def __init__(self, directory, step):
        self.path, self.lines = None, []
        if directory is None:
            return
        self.path = os.path.join(directory, "evaluations.jsonl")
        os.makedirs(directory, exist_ok=True)
        lines = read_evaluations(pathlib.Path(self.path))
        for line in lines:
            for picture in line.get("pictures", {}).values() if line["step"] > step else ():
                pathlib.Path(directory, picture).unlink(missing_ok=True)
        self.lines = [line for line in lines if line["step"] <= step]
        write_whole(self.path, self._write)

    def _write(self, path):
        pathlib.Path(path).write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def add(self, **line):
        self.lines.append(line)
        if self.path is None:
            return
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")

    @property
    def last_epoch(self):
        return self.lines[-1]["epoch"] if self.lines else 0

    @property
    def last_evaluated_step(self):
        return next((line["step"] for line in reversed(self.lines) if line["kind"] == "evaluation"), None)

    def curves(self, kind):
        """Pairs `(step, value)` for each name, from the lines of a kind: `"epoch"` or `"evaluation"`."""
        curves = {}
        for line in self.lines:
            for name, value in line["values"].items() if line["kind"] == kind else ():
                curves.setdefault(name, []).append((line["step"], value))
        return curves


class Events:
    """An event file for TensorBoard.

    Args:
        directory: String.
        step: Integer, at which the training begins or resumes.
    """

    def __init__(self, directory, step):
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.writer = EventFileWriter(directory)
        # Tells TensorBoard to drop later steps, which the stopped run logged and this one will log again.
        self._add(step + 1, session_log=SessionLog(status=SessionLog.START))

    def add_scalars(self, step, values):
        for name, value in values.items():
            self._add_summary(step, name, simple_value=value)

    def add_picture(self, step, name, path, shape):
        image = dict(zip(("height", "width", "colorspace"), shape, strict=True))
        image["encoded_image_string"] = pathlib.Path(path).read_bytes()
        self._add_summary(step, name, image=image)

    def _add_summary(self, step, name, **value):
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(step, summary=Summary(value=[Summary.Value(tag=name, **value)]))

    def _add(self, step, **content):
        from tensorboard.compat.proto.event_pb2 import Event

        self.writer.add_event(Event(step=step, wall_time=time.time(), **content))
        self.writer.flush()
