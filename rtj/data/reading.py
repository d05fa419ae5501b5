"""How a host pipeline reads, whatever it makes of what it reads."""

from collections.abc import Callable
from dataclasses import dataclass

from rtj.data.bad_images import BadImages
from rtj.data.decode import PILLOW, Decoding
from rtj.data.prefetch import Batch, BatchIterator, Fill, choose_workers
from rtj.data.rows import Named, check_not_empty, rows_per_process


@dataclass(frozen=True)
class Reading:
    """What all pipelines are told.

    Attributes:
      decoding: see `rtj.data.decode.make_decoding`.
      max_bad_images: fraction of the data set that may be undecodable. In training
        another example takes the place of such a one, in evaluation it does not count.
      workers: decoding threads; 0 means one for each core this process may use.
      process_index, process_count: process h gets rows [h * b, (h + 1) * b) of a global
        batch, b = batch_size // process_count.
    """

    decoding: Decoding = PILLOW
    max_bad_images: float = 0.0
    workers: int = 0
    process_index: int = 0
    process_count: int = 1

    def share(self, source: Named, batch_size: int) -> "Share":
        """This process's share of the global batches of a source.

        Raises:
          ConfigError: a bad argument. DataError: the source is empty.
        """
        rows = rows_per_process(batch_size, self.process_index, self.process_count)
        check_not_empty(source)
        return Share(
            rows=rows,
            offset=self.process_index * rows,
            bad=BadImages(source.name, len(source), self.max_bad_images),
            threads=choose_workers(self.workers),
        )


PLAIN = Reading()


@dataclass(frozen=True)
class Share:
    """One process's rows.

    Attributes:
      rows: of each batch.
      offset: number of the first of them in the global batch.
      bad: counts what cannot be decoded.
      threads: that read.
    """

    rows: int
    offset: int
    bad: BadImages
    threads: int

    def batches(
        self, allocate: Callable[[int], Batch], fill: Fill, steps: int
    ) -> BatchIterator:
        """`steps` batches; see `BatchIterator`."""
        return BatchIterator(allocate, fill, steps, self.rows, self.threads)
