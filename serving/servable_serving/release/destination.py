"""Whether a repository can be written to, before the work for it begins."""

from __future__ import annotations

from pathlib import Path

from servable_serving.core.addresses import is_url
from servable_serving.repository.local import Repository


def check_destination(repository: str) -> None:
    """Make sure that versions can be pushed into a repository; nothing is left in it.

    Args:
        repository: The folder of the model's versions, which need not exist, or a URL.

    Raises:
        FolderError: This user cannot write to the folder.
        InvalidInput: The URL is not valid.
        StoreError: The repository behind the URL cannot be reached or written.
    """
    if not is_url(repository):
        Repository(Path(repository)).check_writable()
        return
    from servable_serving.repository.remote import Remote

    Remote(repository).check_writable()
