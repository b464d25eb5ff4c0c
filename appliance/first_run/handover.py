"""What of the answers must wait until the appliance serves, kept until it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from appliance.access_config import PRINCIPAL_NAME
from appliance.errors import StateError
from appliance.first_run.answers import Answers

HANDOVER: Final = "etc/appliance/first-run.json"


class Handover(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """client: to be made, None for none. request: whether a signing request for the server certificate is."""

    client: Annotated[str, Meta(pattern=rf"^{PRINCIPAL_NAME}\Z")] | None = None
    request: bool = False


def handover_of(answers: Answers) -> Handover | None:
    """None where nothing has to wait. Pure."""
    found = Handover(client=answers.client, request=answers.certificate == "request")
    return None if found == Handover() else found


def read_handover(path: Path) -> Handover | None:
    """None where all is done. Raises StateError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Handover)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(
            f"{path} is damaged ({error}); remove it, and use `appliance clients add` and `appliance certs csr`"
        ) from None
