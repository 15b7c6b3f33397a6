"""``packnet-predict``: predicts the classes of images with a packed file."""

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from packnet_pl.cli.packed_files import check_task, find_images, find_packed, load_network, open_file
from packnet_pl.command_line import CommandParser
from packnet_pl.console import new_table, output_console, with_progress
from packnet_pl.errors import UsageError, answering_errors
from packnet_pl.names import as_unicode, shown

if TYPE_CHECKING:
    from packnet_pl.data.image_files import Box
    from packnet_pl.models import Preparation
    from packnet_pl.packed.predict import Prediction, Unreadable

__all__ = ["main"]

PROGRAM = "packnet-predict"
AUTO = "auto"


def main() -> None:
    """Runs the command line; exit code 1 means that some files are no images."""
    parser = CommandParser(
        prog=PROGRAM,
        description="Prints the likeliest classes of images and their probabilities. Images are prepared as those "
        "of the test split were, as the file says: squashed, or resized and cut to the middle, and normalised.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a packed file, or the directory of a run")
    parser.add_argument("images", metavar="IMAGE|FOLDER", type=Path, nargs="+", help="images, or folders of them")
    parser.add_argument("--task", required=True, help="whose classes; 'auto' takes for each image the likeliest task")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes per image (default: 3)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images at a time (default: 64)")
    parser.add_argument(
        "--box",
        metavar="X0,Y0,X1,Y1",
        help="what to cut out of the image first, in pixels from its top left corner; for one image",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    with answering_errors(PROGRAM):
        arguments = parser.parse()
        for name in ("top", "batch_size"):
            if getattr(arguments, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}; allowed is 1 or more")
        find_packed(arguments.file)
        images = find_images(arguments.images)
        box = None if arguments.box is None else _box(arguments.box)
        if box is not None and len(images) > 1:
            raise UsageError(f"--box is of one image, and {len(images)} were given: give them one at a time")
        file = open_file(arguments.file)
        choose = arguments.task == AUTO and AUTO not in file.tasks
        tasks = file.tasks if choose else [check_task(arguments.task, file.tasks)]

        # From here on with torch.
        network = load_network(file)
        for task in tasks:
            _warn_of_preparation(task, network.info(task).preparation, box)

        from packnet_pl.packed.predict import predict_images

        predicted = predict_images(network, images, tasks, top=arguments.top, batch_size=arguments.batch_size, box=box)
        predicted = with_progress(predicted, "predicting", len(images))
        try:
            bad = _print_lines(predicted) if arguments.json else _print_table(predicted, choose)
        except ValueError as error:
            raise UsageError(str(error)) from error
    sys.exit(1 if bad else 0)


def _box(text: str) -> "Box":
    try:
        left, top, right, bottom = (float(edge) for edge in text.split(","))
    except ValueError:
        left = top = right = bottom = math.nan
    if not (left < right < math.inf and top < bottom < math.inf and min(left, top) > -math.inf):
        raise UsageError(
            f"--box is {text!r}; allowed are the left, top, right and bottom edge in pixels, as in 10,20,110,90"
        )
    return left, top, right, bottom


def _warn_of_preparation(task: str, preparation: "Preparation | None", box: "Box | None") -> None:
    """Warns where images are prepared otherwise than those of the test split, so that predictions may be worse."""
    if preparation is None:
        reason = "the file does not say how its images were prepared; 256 / 224 of the input size, cut to the middle"
    elif preparation.boxes and box is None:
        reason = (
            "its test images were cut out by boxes; without --box an image counts as cut out, and is squashed whole"
        )
    else:
        return
    sys.stderr.write(f"{PROGRAM}: {task}: {reason}\n")


def _print_lines(predicted: "Iterable[Prediction | Unreadable]") -> int:
    """Prints a JSON object per image; returns how many files are none."""
    from packnet_pl.packed.predict import Unreadable

    bad = 0
    for found in predicted:
        if isinstance(found, Unreadable):
            bad += 1
            line: dict[str, object] = {"picture": as_unicode(found.image), "error": as_unicode(found.reason)}
        else:
            classes = [{"name": name, "probability": _number(share)} for name, share in found.classes]
            line = {"picture": as_unicode(found.image), "task": found.task, "classes": classes}
            line["entropy"] = _number(found.entropy)
            if found.lead is not None:
                line["lead"] = _number(found.lead)
        sys.stdout.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return bad


def _number(value: float) -> float | None:
    """Returns ``value`` as JSON has it: null for NaN and infinity, which are no JSON."""
    return round(value, 6) if math.isfinite(value) else None


def _print_table(predicted: "Iterable[Prediction | Unreadable]", choose: bool) -> int:
    """Prints a row per image, and to stderr why a file is none; returns how many are none."""
    from packnet_pl.packed.predict import Unreadable

    table = new_table("image")
    if choose:
        table.add_column("task")
        table.add_column("lead", justify="right")
    table.add_column("classes, %")
    bad = 0
    for found in predicted:
        if isinstance(found, Unreadable):
            sys.stderr.write(f"{PROGRAM}: {shown(found.reason)}\n")
            bad += 1
            continue
        classes = "   ".join(f"{escape(name)} {100 * share:.1f}" for name, share in found.classes)
        chosen = [escape(found.task), f"{found.lead:.2f}" if found.lead is not None else "-"] if choose else []
        table.add_row(escape(shown(found.image)), *chosen, classes)
    if table.row_count:
        output_console().print(table)
    return bad


if __name__ == "__main__":
    main()
