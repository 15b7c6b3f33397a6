"""``packnet-predict``: asks a packed file what is on images."""

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from packnet_pl.cli.packed_files import check_task, console_width, find_images, find_packed, load_network
from packnet_pl.command_line import CommandParser
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
    parser.add_argument("--task", required=True, help="whose classes; 'auto' takes for each image the surest task")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes per image (default: 3)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images at a time (default: 64)")
    parser.add_argument(
        "--box",
        metavar="X0,Y0,X1,Y1",
        help="what to cut out of the image first, in pixels from its top left corner; for one image",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    with answering_errors(PROGRAM):
        arguments = parser.parse_words()
        for name in ("top", "batch_size"):
            if getattr(arguments, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}; allowed is 1 or more")
        find_packed(arguments.file)
        images = find_images(arguments.images)
        box = None if arguments.box is None else _box(arguments.box)
        if box is not None and len(images) > 1:
            raise UsageError(f"--box is of one image, and {len(images)} were given: give them one at a time")
        network = load_network(arguments.file)
        choose = arguments.task == AUTO and AUTO not in network.tasks
        tasks = network.tasks if choose else [check_task(arguments.task, network.tasks)]

        for task in tasks:
            _tell(task, network.info(task).preparation, box)

        from rich.console import Console
        from rich.progress import track

        from packnet_pl.packed.predict import predict_images

        answers = predict_images(network, images, tasks, top=arguments.top, batch_size=arguments.batch_size, box=box)
        terminal = Console(stderr=True)
        shown = track(
            answers, "asking", len(images), console=terminal, transient=True, disable=not terminal.is_terminal
        )
        try:
            bad = _print_lines(shown) if arguments.json else _print_table(shown, choose)
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


def _tell(task: str, preparation: "Preparation | None", box: "Box | None") -> None:
    """Says where an answer may be worse than those of the test split were."""
    if preparation is None:
        said = "the file does not say how its images were prepared; 256 / 224 of the input size, cut to the middle"
    elif preparation.boxes and box is None:
        said = "its test images were cut out by boxes; without --box an image counts as cut out, and is squashed whole"
    else:
        return
    sys.stderr.write(f"{PROGRAM}: {task}: {said}\n")


def _print_lines(answers: "Iterable[Prediction | Unreadable]") -> int:
    from packnet_pl.packed.predict import Unreadable

    bad = 0
    for answer in answers:
        if isinstance(answer, Unreadable):
            bad += 1
            line: dict[str, object] = {"picture": as_unicode(answer.image), "error": as_unicode(answer.reason)}
        else:
            classes = [{"name": name, "probability": _number(share)} for name, share in answer.classes]
            line = {"picture": as_unicode(answer.image), "task": answer.task, "classes": classes}
            line["entropy"] = _number(answer.entropy)
            if answer.lead is not None:
                line["lead"] = _number(answer.lead)
        sys.stdout.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return bad


def _number(value: float) -> float | None:
    """Returns ``value`` as JSON has it: null for NaN and infinity, which are no JSON."""
    return round(value, 6) if math.isfinite(value) else None


def _print_table(answers: "Iterable[Prediction | Unreadable]", choose: bool) -> int:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from packnet_pl.packed.predict import Unreadable

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("image", overflow="fold")
    if choose:
        table.add_column("task")
        table.add_column("lead", justify="right")
    table.add_column("classes, %")
    bad = 0
    for answer in answers:
        if isinstance(answer, Unreadable):
            sys.stderr.write(f"{PROGRAM}: {shown(answer.reason)}\n")
            bad += 1
            continue
        classes = "   ".join(f"{escape(name)} {100 * share:.1f}" for name, share in answer.classes)
        chosen = [escape(answer.task), f"{answer.lead:.2f}" if answer.lead is not None else "-"] if choose else []
        table.add_row(escape(shown(answer.image)), *chosen, classes)
    if table.row_count:
        Console(width=console_width()).print(table)
    return bad


if __name__ == "__main__":
    main()
