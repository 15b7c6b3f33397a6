"""What packing costs on a GPU, in one script of at most 12 minutes: python benchmarks/speed_gpu.py [--out FILE].

VGG-16 (batches of 256) and ResNet-50 (512), 224 x 224 pixels, bf16-mixed, channels_last, with and without
torch.compile: a step of the second task over plain Lightning, peak memory, and the milliseconds that prune, begin,
finish and verify take, and showing a subnetwork and restoring. Not run on a GPU yet; ``--tiny`` tries it on the CPU.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from packnet_pl import PackNetCallback
from speed_rows.fits import Classifier, StepTimes, repeated, trainer_of
from speed_rows.machine import machine_facts, versions
from speed_rows.networks import OPTIMIZERS, batch_of, build, prunable_weights

CASES = {"vgg16": 256, "resnet50": 512}
ROUNDS, STEPS = 3, 30
BUDGET = 12 * 60.0


def main() -> None:
    """Measures both networks, compiled and not, prints the table and writes JSON; stops beginning cases in time."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("speed_gpu.json"), help="the figures as JSON")
    parser.add_argument("--tiny", action="store_true", help="a trial on the CPU, of a tiny network")
    given = parser.parse_args()
    if not given.tiny and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --tiny tries the script on the CPU")
    begun, console = time.perf_counter(), Console()
    rows: dict[str, dict[str, float]] = {}
    cases = {"tiny": 8} if given.tiny else CASES
    for compiled in (False, True):
        for arch, batch_size in cases.items():
            name = f"{arch}, batch {batch_size}{', compiled' if compiled else ''}"
            if time.perf_counter() - begun > BUDGET * (0.75 if compiled else 0.5):
                console.print(f"{name}: left out, it would not end within {BUDGET / 60:.0f} minutes")
                continue
            console.print(name)
            try:
                rows[name] = _Case(arch, batch_size, compiled, tiny=given.tiny).measure()
            except torch.OutOfMemoryError as error:
                console.print(f"{name}: {str(error).partition('.')[0]}")
            device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
            content = {"device": device, "machine": machine_facts(), "versions": versions(), "rows": rows}
            given.out.write_text(json.dumps(content, indent=1) + "\n")
    console.print(_table(rows))


class _Case:
    def __init__(self, arch: str, batch_size: int, compiled: bool, tiny: bool) -> None:
        self._tiny, self._compiled = tiny, compiled
        self._device = torch.device("cpu" if tiny else "cuda")
        images, labels = batch_of(batch_size, 32 if tiny else 224)
        batch = images.to(self._device, memory_format=torch.channels_last), labels.to(self._device)
        self._loader = repeated(batch, 10 if tiny else STEPS)
        self._modules = {packs: self._module(arch, packs) for packs in (True, False)}

    def measure(self) -> dict[str, float]:
        """Returns what is measured -> figure: first the life of a task, then fits in turns."""
        packnet = self._modules[True].packnet
        weights = prunable_weights(self._modules[True].shared)
        packnet.begin_task("warm up")  # kernels are chosen and loaded
        packnet.prune(0.5)
        packnet.abort_task()
        torch.manual_seed(1)
        for weight in weights:
            weight.normal_(std=0.02)
        packnet.begin_task("first")
        found = {
            "pass_ms": self._milliseconds(lambda: [weight.abs().clone() for weight in weights]),
            "prune_ms": self._milliseconds(lambda: packnet.prune(0.5)),
            "finish_ms": self._milliseconds(packnet.finish_task),
            "begin_ms": self._milliseconds(lambda: packnet.begin_task("second")),
            "verify_ms": self._milliseconds(packnet.verify),
        }
        packnet.abort_task()
        shown = packnet.subnetwork("first")
        found["switch_ms"] = self._milliseconds(shown.__enter__)
        found["switch_back_ms"] = self._milliseconds(lambda: shown.__exit__(None, None, None))
        return {**found, **self._fits()}

    def _fits(self) -> dict[str, float]:
        for module in self._modules.values():
            module.cpu()  # a fit brings its own to the GPU, and takes it back: the other's weights are not counted
        ratios, steps, peaks = [], dict[bool, list[float]]({True: [], False: []}), {True: 0, False: 0}
        for number in range((1 if self._tiny else ROUNDS) + 1):
            taken = {}
            for packs in (True, False) if number % 2 else (False, True):
                watch = StepTimes(self._now)
                callback = PackNetCallback(task="second", phase="train", prune_ratio=0.5, private="head")
                if self._device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                trainer_of(
                    *([callback, watch] if packs else [watch]),
                    accelerator="cpu" if self._tiny else "gpu",
                    precision="bf16-mixed",
                ).fit(self._modules[packs], self._loader)
                taken[packs] = median(watch.seconds)
                if self._device.type == "cuda":
                    peaks[packs] = max(peaks[packs], torch.cuda.max_memory_allocated())
                if packs:
                    self._modules[packs].packnet.abort_task()
            if number:  # the first pair compiles
                ratios.append(taken[True] / taken[False])
                for packs in taken:
                    steps[packs].append(1000 * taken[packs])
        return {
            "step_over_plain": median(ratios),
            "step_ms": median(steps[True]),
            "plain_step_ms": median(steps[False]),
            "peak_gb": peaks[True] / 1e9,
            "plain_peak_gb": peaks[False] / 1e9,
        }

    def _module(self, arch: str, packs: bool) -> Classifier:
        shared, head = build(arch)
        module = Classifier(shared, head, OPTIMIZERS["momentum"], packs)
        module.to(device=self._device, memory_format=torch.channels_last)
        if self._compiled:
            shared.compile()
        return module

    def _milliseconds(self, action: Callable[[], object]) -> float:
        begun = self._now()
        action()
        return 1000 * (self._now() - begun)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def _table(rows: dict[str, dict[str, float]]) -> Table:
    table = Table("", *rows)
    for key in dict.fromkeys(key for row in rows.values() for key in row):
        table.add_row(key.replace("_", " "), *(f"{row[key]:.3f}" for row in rows.values()))
    return table


if __name__ == "__main__":
    main()
