"""Files that the package leaves out: fetched once from the release page, checked by SHA-256."""

from __future__ import annotations

from pathlib import Path

from medfuse.errors import InputError

#: Where the project lives; `pyproject.toml` and `CITATION.cff` say the same.
HOME = "https://github.com/medfuse/medfuse"
#: Where the files of a release lie. Their hashes are in the package, so any mirror will do.
RELEASE = f"{HOME}/releases/download/files-1/"
#: Environment variables: another address for the files, and the folder that they are kept in.
MIRROR, FOLDER = "MEDFUSE_DOWNLOADS", "MEDFUSE_DATA_DIR"


def download_folder() -> Path:
    """Where fetched files are kept: ``MEDFUSE_DATA_DIR``, or the cache folder of the user."""
    import os

    import pooch

    return Path(os.environ.get(FOLDER) or pooch.os_cache("medfuse"))


def fetch(name: str, sha256: str) -> Path:
    """A file of the release, from the folder of earlier downloads or over the network.

    Parameters
    ----------
    name : str
        Name of the file on the release page.
    sha256 : str
        Hash of its content; a file with another one is never returned.

    Raises
    ------
    InputError
        ``E_DOWNLOAD``: it is not there and cannot be fetched, or its hash differs.
    """
    return Path(str(_pooch({name: f"sha256:{sha256}"}, name)))


def fetch_folder(name: str, sha256: str) -> Path:
    """The unpacked content of a zip file of the release; errors as `fetch`."""
    import pooch

    folder = name.removesuffix(".zip")
    _pooch({name: f"sha256:{sha256}"}, name, pooch.Unzip(extract_dir=folder))
    return download_folder() / folder


def _pooch(registry: dict[str, str], name: str, processor: object = None) -> object:
    import os

    import pooch

    pooch.get_logger().setLevel("ERROR")
    address = os.environ.get(MIRROR) or RELEASE
    store = pooch.create(
        path=download_folder(), base_url=address.rstrip("/") + "/", registry=registry
    )
    try:
        return store.fetch(name, processor=processor)
    except ValueError as error:  # the hash, or an address of an unknown kind
        cause = "its SHA-256 differs" if "hash" in str(error) else "the address cannot be used"
        raise _refusal(name, cause) from error
    except OSError as error:  # requests' errors are of this kind
        raise _refusal(name, "it could not be fetched from the release page") from error


def _refusal(name: str, cause: str) -> InputError:
    return InputError(
        "E_DOWNLOAD",
        what="Cannot get a file that the package leaves out",
        where=name,
        cause=cause,
        remedy=f"Try again with a network connection, or download {RELEASE}{name} elsewhere and "
        f"put it into the download folder (see `medfuse doctor`; {FOLDER} sets another one)",
    )
