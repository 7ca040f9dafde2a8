"""A pool of worker processes that hold models, embedded in a program: `MLPool`."""

from ml_pool.jobs import JobFuture
from ml_pool.model_file import ModelFile, predict, predict_batch
from ml_pool.pool import MLPool
from ml_pool.progress import report

__all__ = ["JobFuture", "MLPool", "ModelFile", "predict", "predict_batch", "report"]
