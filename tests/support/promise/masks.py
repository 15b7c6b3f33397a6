"""How the promise checker uses tasks that learn which weights of earlier tasks they compute with."""

from packnet_pl import LearnedMask
from tests.support.promise.user_modules import images, subject_of

MASK = LearnedMask(lr=0.6)
"""Two steps in one direction are enough: phases have few."""


def masked_subject(module, **settings):
    """A UserModule that is asked, while a task is open, for what that task computes with its mask."""
    return asked_with_mask(subject_of(module, images(), **settings))


def asked_with_mask(used):
    """Asks, while a task is open, for what that task computes with its mask."""
    plain, packnet = used.ask, used.module.packnet

    def ask(task):
        if packnet.open_task != task:
            return plain(task)
        with packnet.masked():
            return plain(task)

    used.ask = ask
    return used
