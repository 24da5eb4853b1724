"""Etags: a caller that sends the one it has read changes nothing that another caller has changed since."""

from rpc import errors


def etag(version: int, fingerprint: str = "") -> str:
    """The etag of a version. The fingerprint stands for what else the representation depends on."""
    return f'"{version}-{fingerprint}"' if fingerprint else f'"{version}"'


def check(given: str, current: int, noun: str) -> None:
    """Raise Aborted unless `given` is the etag of the version `current`, whatever its fingerprint, or empty."""
    if given and given.removeprefix("W/").strip('"').partition("-")[0] != str(current):
        raise errors.Aborted(
            f"the {noun} was changed meanwhile", reason="ETAG_MISMATCH", metadata={"etag": etag(current)}
        )
