"""What the processes of a pool say to each other."""

from __future__ import annotations

import enum


class Kind(enum.IntEnum):
    """What a frame is about."""

    # from the pool
    CONFIGURE = 1  # to the template and to spawned workers: a WorkerConfig
    FORK_TEMPLATE = 2  # to the fork server, with the template's socket: (preparation, modules)
    FORK_WORKER = 3  # to the template, with the worker's socket: its number
    JOB = 4  # to a worker: (function, model name, arguments, keyword arguments)
    # to the pool
    HELLO = 10  # with a pidfd where there are any: the pid
    READY = 11  # models are loaded
    LOAD_FAILED = 12  # (model name, the stack trace's text)
    DONE = 13  # what the function returned
    FAILED = 14  # (message, the stack trace's text, the exception or None)
    PROGRESS = 15
    EXITED = 16  # from the template: (worker's number, status as of waitpid)
