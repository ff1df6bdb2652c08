"""`servable data fetch`."""

from __future__ import annotations

from servable_client.cli.options import Json
from servable_trainer.cli.options import Data


def fetch(data: Data = None, json: Json = False) -> None:
    """Find or download the dataset, and verify every file."""
    from servable_client.cli.console import print_json, say
    from servable_trainer.data.fashion_mnist import find

    folder, dataset = find(data)
    if json:
        print_json(
            {
                "folder": str(folder),
                "train": len(dataset.train),
                "test": len(dataset.test),
                "sha256": dataset.checksums,
            }
        )
    else:
        say(
            f"{dataset.name} is in {folder}: {len(dataset.train)} training images, "
            f"{len(dataset.test)} test images, all four files verified"
        )
