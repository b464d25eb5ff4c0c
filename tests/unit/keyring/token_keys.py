"""A key in a PKCS#11 token, made as an operator makes one with the token's own tool."""

from __future__ import annotations

import secrets

from appliance.keyring.pkcs11_kek import TokenKey


def create_key(where: TokenKey) -> None:
    """AES-256, sensitive, not extractable."""
    import pkcs11
    from pkcs11 import Attribute

    with pkcs11.lib(where.module).get_token(token_label=where.token).open(rw=True, user_pin=where.pin()) as session:
        session.generate_key(
            pkcs11.KeyType.AES,
            256,
            label=where.label,
            id=secrets.token_bytes(8),
            store=True,
            template={
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.ENCRYPT: True,
                Attribute.DECRYPT: True,
                Attribute.WRAP: False,
                Attribute.UNWRAP: False,
            },
        )
