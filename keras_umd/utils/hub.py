"""Folders on the Hugging Face Hub (`hf://user/repo`) and on Kaggle (`kaggle://...`), by the hubs' own libraries."""

import re

from keras_umd.utils.optional import import_optional

HUGGING_FACE = re.compile(r"hf://(?!.*\.\.)([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
KAGGLE = re.compile(r"kaggle://(?!.*\.\.)([\w-]+(?:/[\w.-]+){3,4})")


def is_hub(uri):
    """Whether a string names a folder on a hub, rightly or not."""
    return uri.startswith(("hf://", "kaggle://"))


def download(uri, files):
    """The path of a local copy of a folder, in the cache of the hub's library, which also signs in.

    Args:
        uri: String, `hf://user/repo`, with `@revision` behind it for another than the newest, or
            `kaggle://user/model/framework/variation`, with `/version` behind it.
        files: List of names, what to take of the folder; Kaggle gives all of it.
    """
    kind, name, revision = check_uri(uri)
    if kind == "hf":
        return _hugging_face(uri).snapshot_download(name, revision=revision, allow_patterns=list(files))
    return _kaggle(uri).model_download(name)


def upload(uri, folder, files, license=None):
    """Copy files of a folder to a hub, and make the place there if there is none.

    Args:
        uri: As of `download`; of Hugging Face, the revision is a branch.
        folder: String, a local folder.
        files: List of names, those to copy.
        license: String or `None`, the name of a licence, which Kaggle wants to know.
    """
    kind, name, revision = check_uri(uri)
    if kind == "hf":
        client = _hugging_face(uri)
        client.create_repo(name, repo_type="model", exist_ok=True)
        client.upload_folder(repo_id=name, folder_path=folder, revision=revision, allow_patterns=list(files))
    else:
        _kaggle(uri).model_upload(name, folder, license_name=license)


def check_uri(uri):
    """The hub, the name and the revision or `None` that an address names; a ValueError for another string."""
    for kind, pattern in {"hf": HUGGING_FACE, "kaggle": KAGGLE}.items():
        if match := pattern.fullmatch(uri):
            return kind, match[1], match[2] if pattern.groups > 1 else None
    raise ValueError(
        "A folder on a hub is 'hf://user/repo', 'hf://user/repo@revision' or "
        f"'kaggle://user/model/framework/variation'. Received: {uri!r}"
    )


def _hugging_face(uri):
    return import_optional("huggingface_hub", f"{uri!r} needs huggingface_hub: pip install 'keras_umd[hub]'")


def _kaggle(uri):
    return import_optional("kagglehub", f"{uri!r} needs kagglehub: pip install 'keras_umd[hub]'")
