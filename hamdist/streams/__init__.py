"""Streams: where samples come from. This package knows nothing of the rest of hamdist but its errors.

open_stream   a source by its name, checked, and standardised if asked          sources.py
SOURCES       the names of the sources                                          sources.py
Stream        the contract: batches in order, perhaps endless, and a hold-out   stream.py
Batch         R samples: inputs and targets, a row each                         stream.py

Digits        1,797 handwritten digits, which come with hamdist                 digits.py
Signals       sums of sines, squares, the signal school                         signals.py, waves.py
Lectures      the signal school's lectures and exams                            lectures.py
Arrays        .npy (memory-mapped) and .npz files                               arrays.py, npz.py
CSV           text tables, row by row                                           csv_file.py, table.py
Parquet       Parquet tables, record batch by record batch                      parquet.py, table.py
River         River's datasets and generators                                   river_dataset.py, river_names.py
TorchDataset  torch Datasets, IterableDatasets and DataLoaders                  torch_dataset.py
Iterable      any Python iterable, or a function that returns one               iterable.py
JSONLines     lines of JSON from standard input                                 json_lines.py, live_lines.py

Standardise   a stream with inputs standardised online                          standardise.py
Checked       a stream whose promises are kept, or a StreamError says which     checked.py
              what both have of the stream inside them                          wrapped.py

What they share: single samples into batches (sample.py, batching.py, form.py), classes as numbers (labels.py), targets
that are missing (missing.py), what is not finite (not_finite.py), the order of rows (row_order.py), settings and their
types (settings.py, setting_types.py), objects of the user's own code (factory.py), names for an error message
(listing.py), where a source is (position.py), and what says so by itself (own_state.py); the batches of a DataLoader
(loader.py).
"""

from hamdist.streams.arrays import Arrays
from hamdist.streams.checked import Checked
from hamdist.streams.csv_file import CSV
from hamdist.streams.digits import Digits
from hamdist.streams.iterable import Iterable
from hamdist.streams.json_lines import JSONLines
from hamdist.streams.lectures import Lectures
from hamdist.streams.parquet import Parquet
from hamdist.streams.river_dataset import River
from hamdist.streams.signals import Signals
from hamdist.streams.sources import SOURCES, open_stream
from hamdist.streams.standardise import Standardise
from hamdist.streams.stream import Batch, Stream
from hamdist.streams.torch_dataset import TorchDataset

__all__ = [
    "CSV",
    "SOURCES",
    "Arrays",
    "Batch",
    "Checked",
    "Digits",
    "Iterable",
    "JSONLines",
    "Lectures",
    "Parquet",
    "River",
    "Signals",
    "Standardise",
    "Stream",
    "TorchDataset",
    "open_stream",
]
