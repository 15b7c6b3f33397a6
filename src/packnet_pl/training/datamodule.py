"""Serves one task's splits to a Trainer, in an order that depends only on (seed, task, phase, epoch)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch.utils.data import DataLoader, Sampler

from packnet_pl.data.augmentation import SeededItems
from packnet_pl.data.class_balance import class_labels, class_weights
from packnet_pl.data.task_data import ImageDataset, TaskData, draws_random_numbers, unaugmented
from packnet_pl.data.unlabelled import UNLABELLED, Unlabelled, collate_unlabelled
from packnet_pl.training.families import of_both
from packnet_pl.training.seeded_sampler import ItemKeySampler, SeededSampler

__all__ = ["TaskDataModule", "epochs_done"]


class TaskDataModule(pl.LightningDataModule):
    """The data of one task for one phase.

    Args:
        data: The task's splits.
        key: (seed, task, phase): what the order of the samples depends on beside the epoch; read when a fit begins.
        batch_size: Samples per optimizer step, over all processes together.
        accumulate: Batches per optimizer step.
        num_workers: Loader processes.
        balanced: Whether training draws images, with replacement, so that all classes are as likely; as many as there
            are. Read when a fit begins.

    Raises:
        ValueError: If ``batch_size`` or ``accumulate`` is below 1, or ``num_workers`` below 0.
    """

    def __init__(
        self,
        data: TaskData,
        *,
        key: tuple[str | int, ...],
        batch_size: int = 64,
        accumulate: int = 1,
        num_workers: int = 0,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch size is {batch_size}; allowed is 1 or more")
        if accumulate < 1:
            raise ValueError(f"batches per step are {accumulate}; allowed is 1 or more")
        if num_workers < 0:
            raise ValueError(f"number of loader workers is {num_workers}; allowed is 0 or more")
        self.data = data
        self.key, self.balanced = key, balanced
        self._batch_size, self._accumulate, self._num_workers = batch_size, accumulate, num_workers
        self._resumed_epoch, self._resumed_batch = 0, 0

    def setup(self, stage: str) -> None:
        """Resets, before a fit, the position at which an earlier one was resumed."""
        if stage == "fit":
            self._resumed_epoch, self._resumed_batch = 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of epochs done, and of batches done in an unfinished epoch."""
        assert self.trainer is not None
        return {"epoch": epochs_done(self.trainer), "batch": _batches_done(self.trainer)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what :meth:`state_dict` returned, for the fit that is being resumed.

        Lightning restores its own count of epochs only after an iterator was made, which may read ahead already.
        """
        self._resumed_epoch, self._resumed_batch = state_dict["epoch"], state_dict["batch"]

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the shuffled training split; a last batch that is not full is left out.

        Raises:
            ValueError: If the batch size is not a multiple of processes times batches per step, or classes are to be
                balanced and the split does not name them.
        """
        return self._training_loader(self.data.train)

    def unaugmented_dataloader(self) -> DataLoader[Any] | None:
        """Returns the same of the training images as they are without augmentation; None if they have no other."""
        plain = unaugmented(self.data.train)
        return None if plain is self.data.train else self._training_loader(plain)

    def _training_loader(self, split: Any) -> DataLoader[Any]:
        rank, world_size = self._rank_and_world_size()
        parts = world_size * self._accumulate
        if self._batch_size % parts:
            raise ValueError(
                f"batch size {self._batch_size} is for a whole step; with {world_size} processes and "
                f"{self._accumulate} batches per step it must be a multiple of {parts}"
            )
        batch_size = self._batch_size // parts

        def skip() -> int:
            return self._resumed_batch * batch_size if self._epochs_done() == self._resumed_epoch else 0

        weights = None
        if self.balanced:
            labels = class_labels(split)
            weights = class_weights(labels, len(self.data.class_names))[labels]
        sampler = SeededSampler(_size(split), self.key, self._epochs_done, rank, world_size, skip, weights)
        drop_last = len(sampler) >= batch_size
        if draws_random_numbers(split):
            items, keys = SeededItems(split, self.key), ItemKeySampler(sampler)
            return self._loader(items, batch_size=batch_size, sampler=keys, drop_last=drop_last)
        return self._loader(split, batch_size=batch_size, sampler=sampler, drop_last=drop_last)

    def val_dataloader(self) -> DataLoader[Any]:
        """Returns this process's batches of the validation split, in order.

        Each sample is seen once by one process; but with fewer batches than processes all see all, as Lightning would
        leave validation out in a process without any.
        """
        return self._batches_for_trainer("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Returns this process's batches of the test split, in order, like those of validation."""
        return self._batches_for_trainer("test")

    def batches(
        self, split: Literal["val", "test"], rank: int = 0, world_size: int = 1, *, filled: bool = False
    ) -> DataLoader[Any]:
        """Returns every ``world_size``-th batch of a split that is read in order, from batch ``rank`` on.

        All processes together have the batches that one process would have: logits may depend, in their last bits, on
        what else is in the batch.

        Args:
            split: Which one.
            rank: This process, in [0, ``world_size``).
            world_size: Number of processes.
            filled: Whether each process gets equally many, as the forward passes of a sharded network need: where
                others have one more, a batch of an image without a label.
        """
        found, size = (self.data.val if split == "val" else self.data.test), self._batch_size
        starts = range(rank * size, _size(found), world_size * size)
        batches = [list(range(start, min(start + size, _size(found)))) for start in starts]
        most = len(range(0, _size(found), world_size * size))
        if filled and len(batches) < most:
            return self._loader(Unlabelled(found), batches=[*batches, [UNLABELLED]], collate=collate_unlabelled)
        return self._loader(found, batches=batches)

    def _batches_for_trainer(self, split: Literal["val", "test"]) -> DataLoader[Any]:
        rank, world_size = self._rank_and_world_size()
        fewest = len(self.batches(split, world_size - 1, world_size))
        filled = self.trainer is not None and isinstance(self.trainer.strategy, of_both(ModelParallelStrategy))
        return self.batches(split, rank, world_size, filled=filled) if fewest else self.batches(split)

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(
        self,
        split: ImageDataset,
        *,
        batch_size: int = 1,
        sampler: Sampler[Any] | None = None,
        batches: Sequence[list[int]] | None = None,
        drop_last: bool = False,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> DataLoader[Any]:
        return DataLoader(
            split,
            batch_size=batch_size,
            sampler=sampler,
            batch_sampler=batches,
            num_workers=self._num_workers,
            drop_last=drop_last,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            # Without one of its own it draws from torch's generator whenever it is iterated.
            generator=torch.Generator(),
        )

    def _epochs_done(self) -> int:
        return max(self._resumed_epoch, epochs_done(self.trainer) if self.trainer else 0)


def epochs_done(trainer: pl.Trainer) -> int:
    """Returns the number of epochs trained in this fit, also right after a resume (``current_epoch`` is not, there)."""
    done: int = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
    return done


def _batches_done(trainer: pl.Trainer) -> int:
    begun = trainer.fit_loop.epoch_progress.current.ready
    batches: int = trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
    return batches if begun > epochs_done(trainer) else 0


def _size(split: Any) -> int:
    return len(split)
